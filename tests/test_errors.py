import errno

import pytest

from detflow.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    DetflowError,
    EnvironmentFault,
    Locked,
    environment_faults,
)


def test_an_error_is_one_line_of_path_place_cause_remedy():
    error = DataError(
        "xmax 412 exceeds width 400", path="a/b.xml", place=23, remedy="correct the box"
    )
    assert str(error) == "a/b.xml:23: xmax 412 exceeds width 400; correct the box"


def test_line_breaks_in_names_cannot_break_the_line():
    assert "\n" not in str(DataError("bad", path="a\nb.xml"))


def test_exit_codes_are_the_documented_ones():
    codes = {
        cls: cls.exit_code
        for cls in (ConfigError, DataError, ArtifactError, EnvironmentFault, Locked)
    }
    assert list(codes.values()) == [2, 3, 4, 5, 6]


def test_a_full_disk_is_an_environment_fault_that_names_the_file():
    with (
        pytest.raises(EnvironmentFault, match=r"out\.bin: no space left"),
        environment_faults("out.bin"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_errors_pass_through():
    with pytest.raises(FileNotFoundError), environment_faults("out.bin"):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_every_error_is_a_detflow_error():
    assert all(
        issubclass(cls, DetflowError)
        for cls in (ConfigError, DataError, ArtifactError, EnvironmentFault, Locked)
    )
