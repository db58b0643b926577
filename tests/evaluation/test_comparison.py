"""Models on the same images: numbers, verdicts, pictures, and the gate."""

import dataclasses
import json

import pytest

import detflow
from detflow.api.comparison import run_compare
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.evaluation.comparison import Verdict
from detflow.evaluation.comparison_text import describe_comparison, print_comparison


def coco_results(records, split, change=lambda place, box: box):
    """COCO's results that find every object; `change` moves a box, or drops it by None."""
    manifest = read_manifest(records)
    found = []
    for place, sample in enumerate(
        sorted(read_samples(records, manifest, split), key=lambda one: one.source_id)
    ):
        for item in sample.objects:
            box = change(place, item.box)
            if box is not None:
                found.append(
                    {
                        "image_id": sample.source_id,
                        "category_id": manifest.label_map.id_of(item.name),
                        "bbox": list(box.to_coco(sample.size)),
                        "score": 0.5 + 0.001 * place,
                    }
                )
    return found


def write_results(path, *arguments):
    path.write_text(json.dumps(coco_results(*arguments)))
    return path


def narrow(box):
    """A box of half the width: IoU .5, so that it is right at one IoU threshold of ten."""
    return dataclasses.replace(box, xmax=(box.xmin + box.xmax) / 2)


@pytest.fixture(scope="module")
def records(voc_writer, tmp_path_factory):
    """Twelve images to judge on, an object each."""
    return voc_writer(tmp_path_factory.mktemp("twelve"), {"train": 2, "val": 12})


@pytest.fixture(scope="module")
def several(records, tmp_path_factory):
    """Detections that find all, that find half of the images, and that are wide of every third."""
    folder = tmp_path_factory.mktemp("several")
    changes = {
        "all": lambda place, box: box,
        "half": lambda place, box: None if place % 2 else box,
        "narrow": lambda place, box: narrow(box) if place % 3 == 0 else box,
    }
    return {
        name: write_results(folder / f"{name}.json", records, "val", change)
        for name, change in changes.items()
    }


def test_the_first_is_better_where_it_finds_more(several, records, tmp_path, parse_page):
    page = tmp_path / "page.html"
    found = run_compare(
        [several["all"], several["half"], several["all"]], records, "val", page, False
    )
    better, same = found.pairs
    assert better.differences["AP"].first == pytest.approx(1.0)
    assert better.differences["AP"].change > 0.3
    assert better.differences["AP"].verdict is Verdict.BETTER
    assert same.differences["AP"].interval == (0.0, 0.0)
    assert same.differences["AP"].verdict is Verdict.SAME
    num_images = len(found.samples)
    assert (len(better.won), len(better.lost)) == (num_images // 2, 0)
    assert (same.won, same.lost) == ([], [])
    parsed = parse_page(page.read_text(encoding="utf-8"))
    parsed.require_inert()
    parsed.require_links("models", "pair-1", "pair-2")
    assert "A is better than B" in parsed.text
    assert "A and C have the same AP in every draw of the images." in parsed.text


def test_the_document_says_what_the_comparison_does(several, records):
    models = [several["half"], several["narrow"]]
    document = detflow.compare(models, records, split="val")
    found = run_compare(models, records, "val", None, False)
    assert json.loads(json.dumps(document)) == describe_comparison(found)
    assert [one["letter"] for one in document["models"]] == ["A", "B"]
    assert document["models"][0]["bytes"] is None
    (pair,) = document["pairs"]
    ap = pair["differences"]["AP"]
    assert ap["change"] == pytest.approx(ap["first"] - ap["other"])
    assert ap["interval"][0] <= ap["change"] <= ap["interval"][1]
    images = pair["images"]
    assert len(images["won"]) + len(images["lost"]) + images["even"] == document["num_images"]
    assert all(one["errors"][0] < one["errors"][1] for one in images["won"])


def test_the_terminal_has_the_numbers_at_eighty_columns(several, records, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = run_compare([several["half"], several["all"]], records, "val", None, False)
    print_comparison(found)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if line.startswith("AP ")]
    assert row.split()[-1] == "worse"
    assert any(line.startswith("A makes fewer errors than B on 0 images") for line in lines)


def test_what_a_file_leaves_out_is_told_wherever_the_comparison_is_shown(
    several, records, tmp_path, capsys, monkeypatch, parse_page
):
    monkeypatch.setenv("COLUMNS", "200")
    manifest = read_manifest(records)
    names = [sample.filename for sample in read_samples(records, manifest, "val")]
    listed = [{"file": name, "detections": []} for name in [*names[:3], "<b>.jpg"]]
    (tmp_path / "predictions.json").write_text(json.dumps({"images": listed}))
    found = run_compare(
        [several["all"], tmp_path], records, "val", tmp_path / "page.html", shows_progress=False
    )
    warnings = [
        "Entries of images that are not in val are left out: 1 of 4.",
        f"The file does not list {len(names) - 3} of the {len(names)} images of val: objects there "
        "count as not found.",
    ]
    told = [one["warnings"] for one in describe_comparison(found)["models"]]
    assert told == [[], warnings]
    print_comparison(found)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "Mind" in line] == [f"   Mind: {one}" for one in warnings]
    page = parse_page((tmp_path / "page.html").read_text(encoding="utf-8"))
    page.require_inert()
    assert all(f"mind {warning}" in page.text for warning in warnings)


def test_a_worse_model_is_refused_and_an_unclear_one_is_not(several, records):
    worse = run_compare([several["half"], several["all"]], records, "val", None, False)
    with pytest.raises(ArtifactError, match=r"half.json: AP .* is below the 1.000 of .*all.json"):
        worse.require_not_worse()
    run_compare([several["all"]] * 2, records, "val", None, False).require_not_worse()


def test_too_few_images_cannot_be_a_gate(voc_writer, tmp_path):
    records = voc_writer(tmp_path / "voc", {"train": 2, "val": 3}, 1)
    one = write_results(tmp_path / "one.json", records, "val")
    found = run_compare([one, one], records, "val", None, False)
    assert found.pairs[0].differences["AP"].verdict is Verdict.TOO_FEW
    with pytest.raises(DataError, match="fewer than 5 images of val have objects"):
        found.require_not_worse()


def test_what_cannot_be_compared_is_refused(several, records):
    with pytest.raises(ConfigError, match="1 models to compare; name between 2 and 10"):
        detflow.compare([several["all"]], records, split="val")
    with pytest.raises(ConfigError, match="no split 'vals'"):
        detflow.compare([several["all"]] * 2, records, split="vals")
