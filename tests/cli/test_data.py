import json

import pytest


@pytest.fixture
def tiny_set(tmp_path):
    """One image with an annotation that has to be mended, and one without."""
    from PIL import Image

    for name in ("a", "b"):
        Image.new("RGB", (40, 30), (90, 60, 30)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height></size>"
        "<object><name>cat</name><bndbox><xmin>9</xmin><ymin>3</ymin><xmax>3</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>"
    )
    return tmp_path


def test_check_prints_a_summary_or_json_and_says_why_data_are_refused(run, tiny_set):
    done = run("check", tiny_set, "--jobs", 1)
    assert done.code == 0
    assert "annotations   1 found = 1 usable + 0 quarantined" in done.out
    found = run("check", tiny_set, "--jobs", 1, "--json")
    assert json.loads(found.out)["repairs"] == {"box_inverted": 1}
    refused = run("check", tiny_set, "--jobs", 1, "--strict")
    assert refused.code == 3
    first, last = refused.err.splitlines()
    assert "a.xml" in first
    assert last.startswith("detflow: error: ")
    assert "--strict mends nothing" in last


def test_make_records_takes_the_options_that_are_given_and_the_defaults_of_the_others(
    run, tiny_set
):
    output = tiny_set / "records"
    options = ("--jobs", 1, "--classes", "dog, cat", "--no-report")
    done = run("make-records", tiny_set, "--output", output, *options)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"records       {output}\n")
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["classes"] == ["dog", "cat"]
    assert manifest["split_rule"]["fractions"] == {"train": 0.8, "val": 0.1, "test": 0.1}
    assert not (output / "report.html").exists()
    done = run("make-records", tiny_set, "--output", output, "--split", "train=1", "--json")
    assert json.loads(done.out)["split_rule"]["fractions"] == {"train": 1.0}
    assert (output / "report.html").exists()


def test_a_wrong_choice_is_refused(run, tiny_set):
    arguments = ("make-records", tiny_set, "--output", tiny_set / "out")
    for options, reason in (
        (("--split", "train=0.5"), "fractions add up to 0.5"),
        (("--max-bad", "many"), "neither a number nor a percentage"),
        (("--ray-address", "here:1"), "--ray-address goes with --runner ray"),
        (("--seed", "-1"), "-1 is not in the range"),
    ):
        done = run(*arguments, *options)
        assert done.code == 2, options
        assert reason in done.err
    assert not (tiny_set / "out").exists()


def test_init_writes_a_configuration_once(run, records_dir, tmp_path):
    printed = run("init", records_dir)
    assert (printed.code, printed.err) == (0, "")
    assert f"records: {json.dumps(str(records_dir))}" in printed.out
    target = tmp_path / "fitted.yaml"
    assert run("init", records_dir, "--output", target).out == ""
    assert target.read_text() == printed.out
    again = run("init", records_dir, "--output", target)
    assert again.code == 2
    assert "exists; name another file" in again.err


def test_config_prints_what_it_can_read_back(run, tmp_path):
    (tmp_path / "a.yaml").write_text("data:\n  records: nowhere\n")
    done = run("config", tmp_path / "a.yaml", "--set", "train.steps=7")
    assert "  steps: 7\n" in done.out
    (tmp_path / "b.yaml").write_text(done.out)
    assert run("config", tmp_path / "b.yaml").out == done.out
