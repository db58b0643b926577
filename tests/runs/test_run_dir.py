import os

import pytest

from detflow.errors import Locked
from detflow.runs.run_dir import RunDir


def test_another_trainer_is_named_and_left_alone(tmp_path):
    with RunDir(tmp_path).locked():
        with (
            pytest.raises(Locked, match=rf"pid {os.getpid()} on ") as caught,
            RunDir(tmp_path).locked(),
        ):
            pass
        assert caught.value.exit_code == 6
    # The lock ends with its holder.
    with RunDir(tmp_path).locked():
        pass


def test_leftovers_of_a_dead_trainer_are_swept(tmp_path):
    (tmp_path / ".ckpt-9.tmp-0123456789ab").mkdir()
    (tmp_path / "ckpt-8").mkdir()
    with RunDir(tmp_path).locked():
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "ckpt-8"}
