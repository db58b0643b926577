"""What has to stand before any test imports TensorFlow, and what several folders of tests share."""

from pathlib import Path

import pytest

import detflow.engine  # noqa: F401  (sets TensorFlow's environment)

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """Returns the folder of a real dataset by name; skips the test where it is not beside the repository."""

    def find(name):
        folder = _SHARED / name
        if not folder.is_dir():
            pytest.skip(f"the shared set {name} is not beside the repository")
        return folder

    return find
