import json
from pathlib import Path

import pytest
from PIL import Image

import detflow
from detflow.training import fit


@pytest.fixture
def tiny_set(tmp_path):
    """Two images; the box of one has to be mended."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name, left in (("a", 9), ("b", 1)):
        Image.new("RGB", (40, 30), (90, 60 + left, 30)).save(folder / f"{name}.jpg")
        (folder / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>40</width>"
            f"<height>30</height></size><object><name>cat</name><bndbox><xmin>{left}</xmin>"
            "<ymin>3</ymin><xmax>5</xmax><ymax>9</ymax></bndbox></object></annotation>"
        )
    return folder


def test_check_returns_what_it_found_and_prints_nothing(tiny_set, capfd):
    found = detflow.check(tiny_set, jobs=1)
    assert found.refusal is None
    assert found.content["repairs"] == {"box_inverted": 1}
    assert ("box_inverted", "a.xml") in [(one.code, one.path) for one in found.findings]
    assert detflow.check(tiny_set, jobs=1, with_findings=False).findings == ()
    strict = detflow.check(str(tiny_set), jobs=1, strict=True)
    assert isinstance(strict.refusal, detflow.DataError)
    assert any("a.xml" in note for note in strict.refusal.__notes__)
    assert capfd.readouterr() == ("", "")


def test_records_are_made_checked_and_read(tiny_set, tmp_path, capfd):
    manifest = detflow.make_records(
        tiny_set, tmp_path / "records", split={"train": 1.0}, max_bad="50%", report=False, jobs=1
    )
    assert manifest == json.loads((tmp_path / "records" / "manifest.json").read_text())
    assert manifest["splits"]["train"]["images"] == 2
    assert not (tmp_path / "records" / "report.html").exists()
    samples = list(detflow.read_samples(str(tmp_path / "records")))
    assert {sample.key for sample in samples} == {"a", "b"}
    assert isinstance(samples[0].objects[0].box, detflow.Box)
    assert detflow.check(tmp_path / "records", jobs=1).refusal is None
    with pytest.raises(detflow.ConfigError, match="there is no split 'test'"):
        next(detflow.read_samples(tmp_path / "records", "test"))
    assert capfd.readouterr() == ("", "")


def test_a_dataset_that_is_refused_is_an_error_whose_notes_name_the_files(tiny_set, tmp_path):
    with pytest.raises(detflow.DataError, match="--strict mends nothing") as caught:
        detflow.make_records(tiny_set, tmp_path / "records", strict=True, jobs=1)
    assert any("a.xml" in note for note in caught.value.__notes__)
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"split_by": "luck"}, "split_by is 'luck'; choose from auto, lists, folders, seed"),
        ({"split": {"train": 0.5}}, "add up to 0.5"),
        ({"max_bad": "many"}, "neither a number nor a percentage"),
        ({"runner": "slurm"}, "there is no runner 'slurm'"),
        ({"ray_address": "a:1"}, "--ray-address goes with --runner ray"),
    ],
)
def test_a_wrong_choice_is_refused(tiny_set, tmp_path, options, reason):
    with pytest.raises(detflow.ConfigError, match=reason):
        detflow.make_records(tiny_set, tmp_path / "records", **options)


def test_a_url_is_taken_where_a_path_is():
    with pytest.raises(detflow.ConfigError, match="no URL that detflow reads: ftp://"):
        detflow.check("ftp://host/set")


def test_init_returns_the_configuration_that_it_writes(records_dir, tmp_path):
    fast = {"offline": True, "probe": False}
    config = detflow.init(records_dir, **fast)
    assert isinstance(config, detflow.ExperimentConfig)
    assert config.data.records == str(records_dir)
    assert detflow.init(str(records_dir), tmp_path / "fitted.yaml", **fast) == config
    assert "# " in (tmp_path / "fitted.yaml").read_text()
    with pytest.raises(detflow.ConfigError, match="the file exists; name another"):
        detflow.init(records_dir, tmp_path / "fitted.yaml")


def test_init_does_not_replace_a_file_that_appears_while_it_works(
    records_dir, tmp_path, monkeypatch
):
    target, fit_source = tmp_path / "fitted.yaml", fit.fit_source

    def fit_slowly(*arguments):
        target.write_text("mine")
        return fit_source(*arguments)

    monkeypatch.setattr(fit, "fit_source", fit_slowly)
    with pytest.raises(detflow.ConfigError, match="the file exists; name another"):
        detflow.init(records_dir, target, offline=True, probe=False)
    assert target.read_text() == "mine"


def test_paths_may_be_text_or_path_like(tiny_set):
    assert detflow.check(Path(tiny_set), jobs=1).content == (
        detflow.check(str(tiny_set), jobs=1).content
    )
