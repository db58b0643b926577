"""Uploads files to a repository of a model hub. huggingface_hub, an extra, is imported only here.

One commit holds all of an upload, so that a reader of the repository sees the old files or the new
ones. What is large goes to the hub's store before it, by content: a push that was interrupted sends
only what the store does not have yet.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from detflow.errors import ArtifactError, ConfigError, DetflowError, EnvironmentFault
from detflow.process.libraries import describe_install, is_installed
from detflow.text import first_line

PREFIX: Final = "hub:"
"""What stands before a repository's name."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REFUSED: Final = (401, 403)
# Seconds in which a hub neither takes nor sends a byte. The library itself would wait for ever.
_PATIENCE_S = 120.0


def parse_repository(text: str) -> str:
    """Reads `hub:owner/name`; returns `owner/name`.

    Raises:
        ConfigError: It is something else.
    """
    owner, _, name = text.removeprefix(PREFIX).partition("/")
    parts = (owner, name)
    if (
        not text.startswith(PREFIX)
        or not all(_NAME.fullmatch(part) for part in parts)
        or any(".." in part or "--" in part or part[-1] in ".-" for part in parts)
    ):
        raise ConfigError(
            "not a repository of a model hub", path=text, remedy=f"write {PREFIX}owner/name"
        )
    return f"{owner}/{name}"


def upload_files(
    repository: str,
    files: Mapping[str, Path],
    is_stale: Callable[[str], bool],
    message: str,
    *,
    private: bool = False,
) -> str:
    """Makes a repository where there is none, and commits files to it.

    The token is that of `HF_TOKEN` or of `hf auth login`; `HF_ENDPOINT` names another hub. No error
    tells the token.

    Args:
        repository: `owner/name`.
        files: Files by their names in the repository.
        is_stale: Tells of a name that is there already, and not among the files, whether it is
            deleted.
        message: Of the commit.
        private: Whether a repository that is made is private.

    Returns:
        The commit's address.

    Raises:
        ConfigError: The hub finds fault with a name or with the card.
        ArtifactError: The hub's answer makes no sense.
        EnvironmentFault: The library is not installed, the hub cannot be reached, or it refuses.
    """
    if not is_installed("huggingface_hub"):
        raise EnvironmentFault("huggingface_hub is not installed", remedy=describe_install("hub"))
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Its messages and bars would mix with detflow's own on the terminal.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    disable_progress_bars()
    get_session().timeout = _PATIENCE_S
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    additions = [CommitOperationAdd(name, os.fspath(path)) for name, path in files.items()]
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        there = api.list_repo_files(repository)
        deletions = [
            CommitOperationDelete(name) for name in there if name not in files and is_stale(name)
        ]
        commit = api.create_commit(repository, [*additions, *deletions], commit_message=message)
    except (OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise _translate(error, f"{PREFIX}{repository}") from None
    except Exception as error:
        # The library speaks HTTP through one of several others, whose errors it lends a name.
        if not isinstance(error, _http_error()):
            raise
        raise _translate(error, f"{PREFIX}{repository}") from None
    return str(commit.commit_url)


def _translate(error: Exception, path: str) -> DetflowError:
    """Returns what a fault means; nothing that a server says is repeated, it may hold the token."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # An upload that fails in a thread is told of by a RuntimeError.
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    again = "push again: what arrived is kept"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in _REFUSED:
            return EnvironmentFault(
                f"the hub answers with HTTP {status}: it does not let you write there",
                path=path,
                remedy="log in by `hf auth login`, or set HF_TOKEN to a token that may write",
            )
        return EnvironmentFault(f"the hub answers with HTTP {status}", path=path, remedy=again)
    if isinstance(error, HFValidationError):
        return ConfigError(first_line(error), path=path)
    if isinstance(error, (OSError, _http_error())):
        name = type(error).__name__
        return EnvironmentFault(f"the hub cannot be reached: {name}", path=path, remedy=again)
    return ArtifactError(f"the hub's answer makes no sense: {type(error).__name__}", path=path)


def _http_error() -> type[Exception]:
    """Returns the class of all errors of the library that huggingface_hub speaks HTTP through."""
    from huggingface_hub.errors import HfHubHTTPError

    found: type[Exception] = HfHubHTTPError.__bases__[0]
    return found
