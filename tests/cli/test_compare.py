import json

import pytest


@pytest.fixture(scope="module")
def scene(voc_writer, tmp_path_factory):
    """Records, and detections that find nothing and everything."""
    from detflow.data.records.manifest import read_manifest
    from detflow.data.records.reading import read_samples

    folder = tmp_path_factory.mktemp("compared")
    records = voc_writer(folder, {"train": 2, "test": 8})
    manifest = read_manifest(records)
    found = [
        {
            "image_id": sample.source_id,
            "category_id": manifest.label_map.id_of(item.name),
            "bbox": list(item.box.to_coco(sample.size)),
            "score": 0.9,
        }
        for sample in read_samples(records, manifest, "test")
        for item in sample.objects
    ]
    (folder / "none.json").write_text("[]")
    (folder / "all.json").write_text(json.dumps(found))
    return folder


def test_it_prints_a_table_or_json_and_writes_a_page(run, scene, tmp_path):
    models, options = (scene / "all.json", scene / "none.json"), ("--records", scene / "records")
    done = run("compare", *models, *options, "--page", tmp_path / "page.html")
    assert done.code == 0
    (row,) = [line.split() for line in done.out.splitlines() if line.startswith("AP ")]
    assert row == ["AP", "1.000", "0.000", "+1.000", "+1.000", "to", "+1.000", "better"]
    assert done.err == f"page: {tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").is_file()
    document = json.loads(run("compare", *models, *options, "--json").out)
    assert document["pairs"][0]["differences"]["AP"]["verdict"] == "better"


def test_a_worse_first_model_ends_with_code_4_where_that_is_asked_for(run, scene):
    models, options = (scene / "none.json", scene / "all.json"), ("--records", scene / "records")
    assert run("compare", *models, *options).code == 0
    done = run("compare", *models, *options, "--fail-if-worse")
    assert done.code == 4
    assert done.err.splitlines()[-1].startswith(f"detflow: error: {scene / 'none.json'}: AP 0.000")
    assert run("compare", *reversed(models), *options, "--fail-if-worse").code == 0


def test_an_evaluation_of_a_part_of_the_images_turns_no_gate(run, scene, tmp_path):
    from detflow.data.records.manifest import read_manifest

    fingerprint = read_manifest(scene / "records").fingerprint
    (tmp_path / "predictions.json").write_text((scene / "all.json").read_text())
    metrics = {"fingerprint": fingerprint, "split": "test", "warnings": ["It knows these images."]}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    models = (scene / "none.json", tmp_path)
    options = ("--records", scene / "records", "--fail-if-worse")
    done = run("compare", *models, *options, "--split", "train+test")
    assert (done.code, done.out) == (2, "")
    assert "the evaluation is of test, not of train+test; compare on test" in done.err
    assert done.err.count("\n") == 1
    done = run("compare", *models, *options, "--split", "test")
    assert done.code == 4
    assert "   Mind: It knows these images.\n" in done.out


def test_one_model_is_a_usage_error(run, scene):
    done = run("compare", scene / "all.json", "--records", scene / "records")
    assert done.code == 2
    assert "name between 2 and 10" in done.err


def test_a_page_that_cannot_be_written_is_refused_before_any_work(run, scene, monkeypatch):
    work = "detflow.evaluation.comparison.compare_models"
    monkeypatch.setattr(work, lambda *arguments, **options: pytest.fail("this is work"))
    models, options = (scene / "all.json", scene / "none.json"), ("--records", scene / "records")
    done = run("compare", *models, *options, "--page", scene / "all.json" / "page.html")
    assert (done.code, done.out) == (5, "")
    assert "all.json: a file of that name is in the way" in done.err
