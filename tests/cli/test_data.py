import json

import pytest

from detflow.training import fit


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


# A measurement takes seconds, and the network is none of a test's.
FAST = ("--no-probe", "--offline")


def test_init_writes_a_configuration_once(run, records_dir, tmp_path):
    printed = run("init", records_dir, *FAST)
    assert (printed.code, printed.err) == (0, "")
    assert f"records: {json.dumps(str(records_dir))}" in printed.out
    target = tmp_path / "fitted.yaml"
    assert run("init", records_dir, "--output", target, *FAST).out == ""
    assert target.read_text() == printed.out
    again = run("init", records_dir, "--output", target, *FAST)
    assert again.code == 2
    assert "exists; name another file" in again.err


def test_init_does_not_replace_a_file_that_appears_while_it_works(
    run, records_dir, tmp_path, monkeypatch
):
    target, fit_source = tmp_path / "fitted.yaml", fit.fit_source

    def fit_slowly(*arguments):
        target.write_text("mine")
        return fit_source(*arguments)

    monkeypatch.setattr(fit, "fit_source", fit_slowly)
    done = run("init", records_dir, "--output", target, *FAST)
    assert (done.code, done.out) == (2, "")
    again = run("init", records_dir, "--output", target, *FAST)
    assert (again.code, again.err) == (2, done.err.splitlines(keepends=True)[-1])
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("command", "option", "work"),
    [
        ("init", "--output", "detflow.training.fit.fit_source"),
        ("diff", "--page", "detflow.api.difference.compare_folders"),
        ("check", "--report", "detflow.data.check.audit_dataset"),
        ("check", "--questions", "detflow.data.check.audit_dataset"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    run, tiny_set, monkeypatch, command, option, work
):
    monkeypatch.setattr(work, lambda *arguments: pytest.fail("this is work"))
    sets = [tiny_set] * (2 if command == "diff" else 1)
    probe = ["--no-probe"] if command == "init" else []
    done = run(command, *sets, *probe, option, tiny_set / "a.xml" / "out")
    assert (done.code, done.out) == (5, "")
    cause = "a file of that name is in the way"
    assert done.err == f"detflow: error: {tiny_set / 'a.xml'}: {cause}\n"


def test_config_prints_what_it_can_read_back(run, tmp_path):
    (tmp_path / "a.yaml").write_text("data:\n  records: nowhere\n")
    done = run("config", tmp_path / "a.yaml", "--set", "train.steps=7")
    assert "  steps: 7\n" in done.out
    (tmp_path / "b.yaml").write_text(done.out)
    assert run("config", tmp_path / "b.yaml").out == done.out


def test_classes_are_checked_before_any_work(run, tiny_set):
    for command in (("check", tiny_set), ("make-records", tiny_set, "--output", tiny_set / "o")):
        for options, reason in (
            (("--classes", "red,red,blue"), "--classes names 'red' twice; remove one"),
            (("--classes", "red,,blue"), "--classes has an empty name"),
            (("--classes", '"red'), "unexpected end of data"),
            (("--classes", "@nowhere.txt"), "the file cannot be read"),
            (("--rename", "red"), "--rename 'red' is not OLD=NEW"),
            (("--rename", "a=b=c"), "is not OLD=NEW with one ="),
            (("--rename", "a=b", "--rename", "a=c"), "renames 'a' twice"),
            (("--val-from", "train"), "--val-from 'train' is not SPLIT=SHARE"),
        ):
            done = run(*command, *options)
            assert (done.code, done.out) == (2, ""), options
            assert reason in done.err
    assert not (tiny_set / "o").exists()


def test_class_names_may_have_commas_and_come_from_a_file(run, tiny_set):
    (tiny_set / "names").write_text('\ufeffdog, big\r\n\r\n"a"\r\ncat\r\n', encoding="utf-8")
    for text, names in (
        ('"dog, big", cat', ["dog, big", "cat"]),
        (f"@{tiny_set / 'names'}", ["dog, big", '"a"', "cat"]),
    ):
        done = run("check", tiny_set, "--jobs", 1, "--json", "--classes", text)
        assert (done.code, json.loads(done.out)["classes"]) == (0, names)


def test_a_rename_and_a_share_are_in_the_manifest(run, tiny_set):
    done = run("check", tiny_set, "--jobs", 1, "--json", "--rename", "cat=big cat")
    content = json.loads(done.out)
    assert (content["classes"], content["classes_renamed"]) == (["big cat"], {"cat": "big cat"})
    options = ("--split", "train=1", "--val-from", "train=0.25")
    done = run("check", tiny_set, "--jobs", 1, "--json", *options)
    assert json.loads(done.out)["split_rule"]["val_from"] == "train=0.25"
    done = run("check", tiny_set, "--jobs", 1, *options)
    assert "splits        train 1, val 0 (by seed, val from train=0.25)" in done.out
    refused = run("check", tiny_set, "--jobs", 1, "--val-from", "trane=0.25")
    assert refused.code == 2
    assert "the splits are train, val, test" in refused.err or "has a split val" in refused.err


def test_leaks_that_are_allowed_leave_sums_that_add_up(run, tiny_set):
    for name in ("train", "val"):
        (tiny_set / f"{name}.txt").write_text("a\n")
    done = run("check", tiny_set, "--jobs", 1)
    assert done.code == 3
    assert "1 annotation in both train and val: a.xml" in done.err
    assert "1 found = 1 usable + 0 quarantined\n" in done.out
    allowed = run("check", tiny_set, "--jobs", 1, "--allow-leaks")
    assert allowed.code == 0
    assert "1 found = 1 usable + 0 quarantined\n" in allowed.out
    assert "train 1, val 1; 1 image more than once (by lists)" in allowed.out
    assert "1 × split_leak_allowed" in allowed.out


def test_init_takes_a_validation_split_from_a_dataset_only(run, tiny_set, records_dir):
    done = run("init", records_dir, "--val-from", "train=0.1")
    assert done.code == 2
    assert "--val-from is for a dataset, and these are records" in done.err
