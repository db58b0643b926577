"""model.json of a whole export: each fact by itself."""

import pytest

from detflow.artifact import CONTRACT, TFLITE_CONTRACT, ArtifactDir
from detflow.exporting.facts import describe_quality, describe_threshold
from detflow.exporting.recorded import describe_recorded
from detflow.exporting.run import describe_card

pytestmark = pytest.mark.tf

EXACT = ("frozen", "saved_model")


@pytest.fixture(scope="module")
def card(export_dir):
    return ArtifactDir(export_dir).verify()


def test_the_checkpoint_is_named_with_its_metrics(card):
    assert card["checkpoint"]["name"] == "ckpt-10"
    assert (card["checkpoint"]["step"], card["checkpoint"]["metrics"]) == (10, {"AP": 0.5})


def test_classes_contract_and_thresholds_are_told(card):
    assert card["classes"] == ["disc", "Ringe & Ösen", "it's"]
    assert card["contract"] == CONTRACT
    assert card["tflite_contract"] == TFLITE_CONTRACT
    assert card["thresholds"] == {"score_threshold": 0.3, "nms_iou": 0.6, "max_detections": 100}


def test_the_ap_is_of_the_validation_where_there_is_no_test_split(card, export_dir):
    quality = card["quality"]
    assert (quality["role"], quality["split"], quality["images"]) == ("validation", "val", 21)
    assert (quality["objects"], quality["difficult"], quality["twins"]) == (21, 0, 0)
    # The proof ran on the same images.
    assert quality["metrics"] == pytest.approx(card["parity"]["metrics"], abs=1e-6)
    assert list(quality["classes"]) == card["classes"]
    assert card["parity"]["role"] == "held out"
    readme = (export_dir / "README.md").read_text(encoding="utf-8")
    assert describe_quality(quality) in readme


def test_the_training_data_are_told(card):
    data = card["data"]
    assert (data["split"], data["images"]) == ("train", 3)
    assert sum(data["objects_per_class"].values()) == 3
    assert list(data["objects_per_class"]) == card["classes"]
    assert card["minutes"] is None


def test_the_proof_s_images_are_named(card, records_dir):
    parity = card["parity"]
    assert (parity["images"], parity["source"]) == ("records", f"{records_dir} val")
    assert parity["num_images"] == 21
    assert parity["metrics"]["AP"] is not None


def test_every_entry_of_every_format_is_told(card):
    expected = {
        "frozen": ["frozen_inference_graph.pb", "frozen_inference_graph_encoded.pb"],
        "saved_model": ["saved_model", "saved_model image_bytes", "saved_model tf_example"],
        "onnx": ["model.onnx", "model.onnx OpenCV"],
        "tflite": ["model.tflite"],
        "tflite_float16": ["model_float16.tflite"],
        "tflite_int8": ["model_int8.tflite"],
        "tflite_dynamic": ["model_dynamic.tflite"],
    }
    assert {name: list(card["formats"][name]["entries"]) for name in expected} == expected
    assert {str(found["refused"]) for found in card["formats"].values()} == {"{}"}


def test_the_default_formats_come_first(card):
    assert list(card["formats"])[:2] == ["frozen", "saved_model"]


@pytest.mark.parametrize("name", EXACT)
def test_tensorflow_s_formats_agree_exactly(name, card):
    found = card["formats"][name]
    assert found["metrics"] == card["parity"]["metrics"]
    assert found["change"] == {"AP": 0.0, "AP50": 0.0}
    for entry in found["entries"].values():
        differences = entry["max_differences"]
        assert (entry["num_images"], entry["share_found"]) == (21, 1.0)
        assert entry["num_detections"] > 50
        assert differences["num_detections"] == differences["detection_classes"] == 0.0
        assert max(differences.values()) <= 1e-4


@pytest.mark.parametrize(
    ("name", "min_share"),
    [("onnx", 0.999), ("tflite", 0.999), ("tflite_float16", 0.98), ("tflite_dynamic", 0.9)],
)
def test_other_formats_agree_within_their_tolerance(name, min_share, card):
    found = card["formats"][name]
    assert found["gate"]["tolerance"]["min_share"] == min_share
    assert abs(found["change"]["AP"]) <= found["gate"]["max_ap_drop"]
    for entry in found["entries"].values():
        assert entry["share_found"] >= min_share
        assert entry["num_detections"] > 50
        assert name not in ("onnx", "tflite") or abs(entry["count_change"]) <= 0.01


@pytest.mark.parametrize("name", ["tflite_float16", "tflite_dynamic", "tflite_int8"])
def test_what_rounding_did_to_the_numbers_is_told(name, card):
    rounding = card["formats"][name]["rounding"]
    assert rounding["constants"] > 50
    assert rounding["numbers"] > 10_000
    assert 0.4 < rounding["max_steps"] <= 0.501
    assert "rounding" not in card["formats"]["tflite"]


def test_tflite_s_tensors_are_described(card):
    for name, found in card["formats"].items():
        if name.startswith("tflite"):
            assert found["input"]["shape"] == [1, 64, 64, 3]
            tensors = [output["name"] for output in found["outputs"]]
            assert tensors == ["boxes", "classes", "scores", "count"]


def test_only_the_preferred_entry_is_timed(card):
    for found in card["formats"].values():
        first, *others = found["entries"].values()
        assert first["p50_ms"] > 0
        assert not [entry for entry in others if "p50_ms" in entry]


def test_sizes_are_those_of_the_files(card):
    for found in card["formats"].values():
        files = [path for path in card["files"] if path.split("/")[0] in found["paths"]]
        assert found["bytes"] == sum(card["files"][path]["bytes"] for path in files) > 0


def test_every_file_but_the_card_has_its_digest(card, export_dir):
    paths = (path for path in export_dir.rglob("*") if path.is_file())
    on_disk = {path.relative_to(export_dir).as_posix() for path in paths}
    assert set(card["files"]) == on_disk - {"model.json"}


def test_the_configuration_is_the_run_s(export_dir, model_dir):
    assert (export_dir / "config.yaml").read_text() == (model_dir / "config.yaml").read_text()


def test_the_summary_names_classes(card, export_dir):
    first = describe_card(card, export_dir).splitlines()[0]
    assert first == f"ckpt-10 → {export_dir}; classes: disc, Ringe & Ösen, it's"
    many = describe_card(card | {"classes": [f"c{number}" for number in range(10)]}, export_dir)
    assert "; classes: c0, c1, c2, c3, c4, c5, c6, c7 and 2 more\n" in many


def test_the_summary_has_a_line_for_each_entry_and_the_time_of_each_format(card, export_dir):
    _, *lines, quality, threshold, recorded, paths = describe_card(card, export_dir).splitlines()
    assert quality == describe_quality(card["quality"])
    assert threshold == describe_threshold(card)
    assert recorded == describe_recorded(card["parity"]["recorded"])
    assert paths == f"card: {export_dir / 'card.html'}, {export_dir / 'README.md'}"
    assert len(lines) == sum(len(found["entries"]) for found in card["formats"].values())
    timed = [line for line in lines if line.endswith(" s")]
    assert len(timed) == len(card["formats"])
    for line, found in zip(timed, card["formats"].values(), strict=True):
        assert 0 < found["seconds"] < 600
        assert line.endswith(f"; {found['seconds']:.0f} s")
    assert f"{export_dir / 'saved_model'} (tf_example): " in "\n".join(lines)
    (tflite,) = [line for line in lines if "model.tflite" in line]
    assert "detections found again on 21 images; AP 0.0" in tflite


def test_the_summary_says_where_synthetic_pictures_stood_in(card, export_dir):
    assert "synthetic" not in describe_card(card, export_dir)
    synthetic = card | {"parity": card["parity"] | {"images": "synthetic"}}
    assert "the proof ran on synthetic pictures" in describe_card(synthetic, export_dir)
