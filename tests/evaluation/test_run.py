import json
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

import detflow
from detflow.data.judging.audit import AuditOptions
from detflow.data.making import RecordOptions, publish_records
from detflow.digests import seal
from detflow.errors import ArtifactError, ConfigError, DataError, EnvironmentFault
from detflow.evaluation.run import evaluate_model
from detflow.metrics.coco import EvaluatedImage
from detflow.types import Detection

# As the fixture model_dir has them.
CLASSES = ("disc", "Ringe & Ösen", "it's")


@pytest.fixture(scope="module")
def records_of_little(tmp_path_factory):
    """Splits train (an object), bare (one image, none) and void (no image)."""
    root = tmp_path_factory.mktemp("little")
    (root / "voc").mkdir()
    corners = "<xmin>5</xmin><ymin>5</ymin><xmax>35</xmax><ymax>30</ymax>"
    disc = f"<object><name>disc</name><bndbox>{corners}</bndbox></object>"
    for name, item in {"a": disc, "b": ""}.items():
        Image.new("RGB", (60, 40), (len(item) % 255, 90, 30)).save(root / "voc" / f"{name}.jpg")
        (root / "voc" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>"
            f"<size><width>60</width><height>40</height></size>{item}</annotation>"
        )
    sets = root / "voc" / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    for split, names in {"train": "a\n", "bare": "b\n"}.items():
        (sets / f"{split}.txt").write_text(names)
    publish_records(
        root / "voc",
        root / "records",
        RecordOptions(audit=AuditOptions(classes=CLASSES), jobs=1),
    )
    manifest = json.loads((root / "records" / "manifest.json").read_text())
    manifest["splits"]["void"] = {
        "images": 0,
        "objects": 0,
        "objects_per_class": dict.fromkeys(CLASSES, 0),
        "shards": [],
    }
    (root / "records" / "manifest.json").write_text(json.dumps(seal(manifest)))
    return root / "records"


@pytest.fixture(scope="module")
def records_of_run(pictures_dir, tmp_path_factory):
    """Three pictures to train on and 21 in split `val`; the classes stand in the model's order."""
    root = tmp_path_factory.mktemp("run")
    shutil.copytree(pictures_dir, root / "voc")
    sets = root / "voc" / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    for split, numbers in {"train": range(3), "val": range(3, 24)}.items():
        (sets / f"{split}.txt").write_text("".join(f"p{number:02}\n" for number in numbers))
    publish_records(
        root / "voc",
        root / "records",
        RecordOptions(audit=AuditOptions(classes=CLASSES), jobs=1),
    )
    return root / "records"


def test_what_can_be_refused_is_refused_before_tensorflow_is_imported(records_of_little, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    code = (
        "import sys; from pathlib import Path; from detflow.evaluation.run import evaluate_model\n"
        "from detflow.errors import DetflowError\n"
        "for split, output in (('void', None), ('none', None), ('bare', 'other')):\n"
        "    output = output and Path(output)\n"
        "    try: evaluate_model(Path('model'), Path(sys.argv[1]), split, output=output)\n"
        "    except DetflowError as error: print(error.exit_code, error)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    arguments = [sys.executable, "-c", code, str(records_of_little)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    void, unknown, other = done.stdout.splitlines()
    assert (
        void == f"3 {records_of_little}: split void has no images to judge on; choose another split"
    )
    assert unknown.startswith("2 there is no split 'none'; ")
    assert (
        other
        == "2 other: the folder is not empty and holds no evaluation.html; choose another folder"
    )
    assert os.listdir(tmp_path / "other") == ["thesis.txt"]


def test_the_refusals_have_their_kinds(records_of_little, tmp_path):
    with pytest.raises(DataError, match="no images"):
        evaluate_model(tmp_path, records_of_little, "void")
    for wrong in (float("nan"), 1.5):
        with pytest.raises(ConfigError, match=f"score threshold {wrong}: expected 0 to 1"):
            evaluate_model(tmp_path, records_of_little, "bare", score_threshold=wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not a folder"):
        evaluate_model(tmp_path, records_of_little, "bare", output=tmp_path / "file")
    with pytest.raises(EnvironmentFault, match="file"):
        evaluate_model(tmp_path, records_of_little, "bare", output=tmp_path / "file" / "out")


@pytest.fixture
def perfect_model(monkeypatch, without_plots):
    """Stands in for a model that finds every object: what is tested here does not depend on it."""

    def detect(model, samples, reader):
        label_map = reader.manifest.label_map
        judged = list(samples)
        images = [
            EvaluatedImage(
                sample.size,
                sample.objects,
                [Detection(o.name, label_map.id_of(o.name), 0.9, o.box) for o in sample.objects],
            )
            for sample in judged
        ]
        return "ckpt-9", ("a warning",), judged, images

    monkeypatch.setattr("detflow.evaluation.run._detect", detect)


@pytest.mark.parametrize(("split", "ap"), [("train", pytest.approx(1.0)), ("bare", None)])
def test_one_image_with_and_without_objects(
    records_of_little, perfect_model, tmp_path, split, ap, parse_page
):
    analysis = evaluate_model(tmp_path, records_of_little, split, output=tmp_path / "out")
    assert len(analysis.images) == 1
    assert analysis.metrics["AP"] == ap
    page = parse_page((tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8"))
    page.require_inert()
    assert page.text_of("h1") == f"{tmp_path.name} on {split}"


def test_what_is_published_is_compared_on_its_own_images(records_of_run, perfect_model, tmp_path):
    evaluate_model(tmp_path, records_of_run, "val", output=tmp_path / "out")
    models = [tmp_path / "out", tmp_path / "out" / "predictions.json"]
    found = detflow.compare(models, records_of_run, split="val")
    assert [one["warnings"] for one in found["models"]] == [["a warning"]] * 2
    assert [one["metrics"]["AP"] for one in found["models"]] == pytest.approx([1.0, 1.0])
    for other in ("train", "train+val"):
        with pytest.raises(ConfigError, match="the evaluation is of val, not of train"):
            detflow.compare(models, records_of_run, split=other)


@pytest.mark.tf
def test_a_model_directory_a_checkpoint_and_an_artifact_are_judged_alike(
    records_of_run, model_dir, artifact_dir, tmp_path
):
    analyses = [
        evaluate_model(model, records_of_run, "val")
        for model in (model_dir, model_dir / "ckpt-10", artifact_dir)
    ]
    for analysis in analyses[1:]:
        assert analysis.metrics == pytest.approx(analyses[0].metrics, abs=1e-3)
    assert [analysis.subject.model for analysis in analyses] == [
        str(model_dir),
        str(model_dir / "ckpt-10"),
        str(artifact_dir),
    ]
    assert analyses[0].subject.source == str(model_dir / "ckpt-10")


def test_the_command(records_of_run, perfect_model, tmp_path):
    from click.testing import CliRunner

    from detflow.cli.main import cli

    output = tmp_path / "out"
    arguments = ["evaluate", "--model", str(tmp_path), "--records", str(records_of_run)]
    arguments += ["--split", "val", "--output", str(output)]
    shown = CliRunner().invoke(cli, [*arguments, "--json", "--score-threshold", "0.1"])
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    assert document == json.loads((output / "metrics.json").read_text())
    assert (document["split"], document["num_images"]) == ("val", 21)
    assert (document["score_threshold"], document["source"]) == (0.1, "ckpt-9")
    assert document["num_objects"] == {"Ringe & Ösen": 7, "disc": 7, "it's": 7}
    assert {"AP", "AP50/disc", "VOC07_mAP"} <= set(document["metrics"])
    assert str(output / "evaluation.html") in shown.stderr


def test_the_command_again_replaces_the_folder(records_of_little, perfect_model, tmp_path):
    from click.testing import CliRunner

    from detflow.cli.main import cli

    output = tmp_path / "out"
    arguments = ["evaluate", "--model", str(tmp_path), "--records", str(records_of_little)]
    arguments += ["--split", "train", "--output", str(output)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    (output / "stale.txt").write_text("")
    table = CliRunner().invoke(cli, arguments)
    assert table.exit_code == 0, table.output
    assert "AP50 lost to:" in table.stdout
    assert not (output / "stale.txt").exists()


def test_a_fault_publishes_nothing(records_of_little, perfect_model, tmp_path, monkeypatch):
    monkeypatch.setattr("detflow.evaluation.files.render_evaluation", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate_model(tmp_path, records_of_little, "train", output=tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_damaged_records_are_found_before_they_are_judged(records_of_run, tmp_path):
    shutil.copytree(records_of_run, tmp_path / "records")
    [shard, *_] = sorted((tmp_path / "records").glob("val-*"))
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="record"):
        evaluate_model(tmp_path / "no model", tmp_path / "records", "val")
