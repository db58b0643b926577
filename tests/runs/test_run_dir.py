import os

import pytest

from detflow.errors import ArtifactError, ConfigError, Locked
from detflow.label_map import LabelMap, read_label_map
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


@pytest.mark.parametrize("name", ["holiday.jpg", "config.yaml", "checkpoint"])
def test_a_folder_with_other_things_is_refused_and_left_as_it_is(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match=f"other things, such as {name}, and no run.json"):
        RunDir(tmp_path).locked().__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(ConfigError, match="is not a folder"):
        RunDir(tmp_path / name).locked().__enter__()


def test_a_folder_that_is_empty_but_for_hidden_files_will_do(tmp_path):
    (tmp_path / ".DS_Store").write_text("")
    with RunDir(tmp_path).locked():
        pass


@pytest.fixture
def recorded(tmp_path, run_record, tiny_settings):
    run = RunDir(tmp_path / "run")
    run.write_record(run_record(tiny_settings))
    return run


@pytest.fixture
def tiny_settings():
    from detflow.config.reading import parse_config

    return parse_config("data: {records: x}", [])


def test_what_a_run_belongs_to_is_written_once_and_read_back(recorded, run_record, tiny_settings):
    record = run_record(tiny_settings)
    assert recorded.read_record() == record
    before = {path: path.stat().st_mtime_ns for path in recorded.path.iterdir()}
    recorded.write_record(record)
    assert {path: path.stat().st_mtime_ns for path in recorded.path.iterdir()} == before
    # The views are made again from the record.
    recorded.config_path.unlink()
    recorded.label_map_path.write_text("")
    recorded.write_record(record)
    assert recorded.label_map_path.read_text() == record.label_map.to_pbtxt()
    assert "records: x" in recorded.config_path.read_text()


def test_every_flipped_bit_of_the_record_is_noticed_or_changes_nothing(recorded, flip_bits):
    expected = recorded.read_record()
    for read in flip_bits(recorded.record_path, recorded.read_record):
        assert read == expected


def test_every_flipped_bit_of_the_label_map_is_noticed_or_changes_nothing(recorded, flip_bits):
    learnt = recorded.read_record().label_map

    def read():
        recorded.require_classes(learnt)
        return read_label_map(recorded.label_map_path)

    for read_map in flip_bits(recorded.label_map_path, read):
        assert read_map == learnt


@pytest.mark.parametrize(
    "text",
    [
        LabelMap(("it's", "Ringe & Ösen", "disc")).to_pbtxt(),
        LabelMap(("disc",)).to_pbtxt(),
        "item { id: 1 name: 'disc' } item { id: 2 name: 'Ringe & Ösen' } item { id: 9 name: 'x' }",
        "item {",
        "",
    ],
)
def test_a_label_map_in_the_place_of_the_run_s_own_is_refused(recorded, text):
    recorded.label_map_path.write_text(text)
    with pytest.raises(
        ArtifactError, match=r"label_map\.pbtxt.*put it back, or remove it"
    ) as caught:
        recorded.require_classes(recorded.read_record().label_map)
    assert caught.value.exit_code == 4
    recorded.label_map_path.unlink()
    recorded.require_classes(recorded.read_record().label_map)


@pytest.mark.parametrize(
    ("written", "has", "is_edit"),
    [
        ("", "", False),
        # As an earlier version wrote it, which did not know this setting.
        ("  init_licence: null\n", "", False),
        ("  steps: ", "  steps: 1", True),
        ("train:", "train: [", True),
        ("train:", "  no: mapping", True),
    ],
)
def test_an_edit_of_the_configuration_is_told(recorded, written, has, is_edit):
    text = recorded.config_path.read_text()
    assert written in text
    recorded.config_path.write_text(text.replace(written, has, 1))
    found = recorded.find_edit()
    assert (found is not None) is is_edit
    if is_edit:
        assert "config.yaml is not the run's configuration and has no effect" in found
