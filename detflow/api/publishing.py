"""The front door's function for model hubs."""

from __future__ import annotations

from detflow.api.common import Place, to_path


def push(export: Place, destination: str, *, private: bool = False) -> str:
    """Uploads an exported folder to a repository of a model hub, in one commit.

    Files of an earlier export that stand there go; files that no export has are left alone. A push
    that is repeated after an interruption sends only what has not arrived. The token is that of
    `HF_TOKEN` or of `hf auth login`, and `HF_ENDPOINT` names another hub.

    Args:
        export: The exported folder, whose files are compared with its manifest first.
        destination: "hub:owner/name"; the repository is made where there is none.
        private: Whether a repository that is made is private.

    Returns:
        The commit's address.

    Raises:
        ConfigError: The destination is no repository's name.
        ArtifactError: The folder is no export, or damaged.
        EnvironmentFault: The extra `hub` is not installed, or the hub refuses or cannot be reached.
    """
    from detflow.exporting.push import push_export

    return push_export(to_path(export), destination, private=private)
