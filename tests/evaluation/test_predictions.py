import json
import math
import re

import pytest

from detflow.data.records.manifest import RecordsManifest, SplitInfo
from detflow.errors import ConfigError, DataError
from detflow.evaluation.predictions import find_predictions, read_predictions
from detflow.label_map import LabelMap
from detflow.prediction.files import COCO_RESULTS_NAME
from detflow.types import Box, Detection, ImageSize, Sample

LABELS = LabelMap(("cat", "dog"))
SIZE = ImageSize(200, 100)
SAMPLES = [Sample(f"k{n}", 10 + n, f"images/{n}.jpg", SIZE, b"", ()) for n in range(3)]
RESULT = {"image_id": 11, "category_id": 2, "bbox": [20, 10, 60, 40], "score": 0.5}
BOX = Box(0.1, 0.1, 0.5, 0.4)
SPLIT = SplitInfo(3, 0, {}, ())
MANIFEST = RecordsManifest(
    LABELS,
    dict.fromkeys(("train", "val", "test"), SPLIT),
    {"trainval": ("train", "val"), "development": ("val", "train")},
    "f" * 64,
)


@pytest.fixture
def read_all(tmp_path):
    def read_content(content, samples=SAMPLES, split="val"):
        path = tmp_path / "predictions.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_predictions(path, samples, MANIFEST, split)

    return read_content


@pytest.fixture
def read(read_all):
    return lambda *arguments: read_all(*arguments).detections


@pytest.fixture
def evaluate(tmp_path):
    """Writes what an evaluation has beside its detections."""

    def write(**content):
        content = {"fingerprint": "f" * 64, "split": "val", **content}
        (tmp_path / "metrics.json").write_text(json.dumps(content))

    return write


def detect_on(*image_ids):
    return [{**RESULT, "image_id": image_id} for image_id in image_ids]


def list_images(*names):
    return {"images": [{"file": name, "detections": []} for name in names]}


def test_results_go_to_their_images_from_the_highest_score_on(read):
    better = {**RESULT, "category_id": 1, "score": 0.9}
    assert read([RESULT, better]) == [
        [],
        [Detection("cat", 1, 0.9, BOX), Detection("dog", 2, 0.5, BOX)],
        [],
    ]


def test_a_box_is_clipped_to_its_image_and_dropped_outside(read):
    over, outside = {**RESULT, "bbox": [-20, 90, 240, 40]}, {**RESULT, "bbox": [300, 0, 9, 9]}
    (_, (found,), _) = read([over, outside])
    assert found.box == Box(0.9, 0.0, 1.0, 1.0)


def test_what_predict_wrote_is_found_by_the_name_of_the_image(read):
    detection = {"name": "dog", "class_id": 1, "score": 0.5, "box": [0.1, 0.1, 0.5, 0.4]}
    images = [
        {"file": "/photos/images/1.jpg", "detections": [detection]},
        {"file": "elsewhere/2.jpg", "detections": []},
        {"file": "stranger.jpg", "detections": [detection]},
    ]
    # The class ids of the model need not be those of the records.
    assert read({"images": images}) == [[], [Detection("dog", 2, 0.5, BOX)], []]


def test_names_that_fit_several_images_are_refused(read):
    samples = [Sample(f"k{n}", n, f"{n}/a.jpg", SIZE, b"", ()) for n in range(2)]
    content = {"images": [{"file": "a.jpg", "detections": []}]}
    with pytest.raises(DataError, match=r"a\.jpg is the name of several images"):
        read(content, samples)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"a": 1}, "neither COCO's results nor what detflow predict writes"),
        ([{**RESULT, "score": None}], "entry 0: not one of COCO's results"),
        ([{**RESULT, "score": "nan"}], "entry 0: not one of COCO's results: ValueError score nan"),
        ([{**RESULT, "bbox": [1, 2, 3]}], "entry 0: not one of COCO's results"),
        ([RESULT, 7], "entry 1: not one of COCO's results"),
        (
            [RESULT, {**RESULT, "category_id": 1.9}],
            "entry 1: not one of COCO's results: ValueError",
        ),
        ([{**RESULT, "category_id": True}], "ValueError category_id True"),
        ([{**RESULT, "image_id": 11.7}], "ValueError image_id 11.7"),
        ([{**RESULT, "image_id": math.inf}], "entry 0: not one of COCO's results: OverflowError"),
        ([{**RESULT, "bbox": [20, 10, -60, 40]}], "ValueError bbox [20, 10, -60, 40]"),
        ([RESULT, {**RESULT, "bbox": [20, 10, 60, -1]}], "entry 1: not one of COCO's results"),
        ([{**RESULT, "bbox": [20, math.nan, 60, 40]}], "ValueError bbox [20, nan, 60, 40]"),
        ([{**RESULT, "bbox": [20, 10, math.inf, 40]}], "ValueError bbox [20, 10, inf, 40]"),
        ([{**RESULT, "image_id": 99, "bbox": [-math.inf, 0, 1, 1]}], "ValueError bbox [-inf"),
        (
            [{**RESULT, "category_id": 3}],
            "has category_id 3, and the records have",
        ),
        ([{**RESULT, "image_id": 99}], "none of its 1 image is in the split, by image_id"),
        ({"images": [{"file": "x.jpg", "detections": []}]}, "none of its 1 image is in the split"),
        ({"images": [{"file": "images/1.jpg"}]}, "image 0: not one of detflow predict's"),
        (
            {
                "images": [
                    {
                        "file": "images/1.jpg",
                        "detections": [{"name": "owl", "score": 1, "box": [0, 0, 1, 1]}],
                    }
                ]
            },
            "it has owl, and the records have the classes cat, dog",
        ),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(read, content, why):
    with pytest.raises(DataError) as caught:
        read(content)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_number_may_be_written_as_a_float(read):
    whole = {**RESULT, "image_id": 11.0, "category_id": 2.0}
    assert read([whole]) == read([RESULT])


def test_an_evaluation_of_other_records_is_refused(read, evaluate):
    evaluate()
    assert read([RESULT])[1]
    evaluate(fingerprint="e" * 64)
    with pytest.raises(ConfigError, match="fingerprint eeeeeeeeeeee, these have ffffffffffff"):
        read([RESULT])


@pytest.mark.parametrize(
    ("evaluated", "judged"),
    [
        ("val", "train+val"),
        ("val", "trainval"),
        ("train+val", "test"),
        ("development", "val+test"),
        ("test", "val"),
    ],
)
def test_an_evaluation_of_other_splits_is_refused(read_all, evaluate, evaluated, judged):
    evaluate(split=evaluated)
    with pytest.raises(ConfigError, match=rf"is of {re.escape(evaluated)}, not of ") as caught:
        read_all([RESULT], SAMPLES, judged)
    assert f"not of {judged}; compare on {evaluated}, or evaluate on {judged}" in str(caught.value)


@pytest.mark.parametrize(
    ("evaluated", "judged"),
    [("train+val", "val"), ("development", "train+val"), ("val+train", "trainval")],
)
def test_an_evaluation_of_as_many_splits_or_more_is_taken(read_all, evaluate, evaluated, judged):
    evaluate(split=evaluated)
    assert read_all(detect_on(10, 11, 12), SAMPLES, judged).warnings == ()


def test_a_metrics_file_of_another_program_says_nothing(read_all, tmp_path):
    for content in ([1], {"split": 7, "warnings": 7}, {"fingerprint": 7}):
        (tmp_path / "metrics.json").write_text(json.dumps(content))
        assert read_all(detect_on(10, 11, 12)).warnings == ()


def test_warnings_of_an_evaluation_stay_with_its_detections(read_all, evaluate):
    evaluate(warnings=["The model was trained on these images (val).", "Half: \ud800"])
    first, second = read_all(detect_on(10, 11, 12)).warnings
    assert first == "The model was trained on these images (val)."
    assert second == "Half: \\ud800"
    # It was trained on some of the images that it was evaluated on; nobody knows on which.
    evaluate(split="trainval", warnings=["The model was trained on these images (train)."])
    (warning,) = read_all(detect_on(10, 11, 12)).warnings
    assert warning.startswith("Of the evaluation on trainval: The model was trained")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"split": None}, "split: expected a text of 1 to 1,000 characters"),
        ({"split": "vale"}, "it names the split 'vale', which the records do not have"),
        ({"warnings": None}, "warnings: expected a list of at most 20 sentences"),
        ({"warnings": "abc"}, "warnings: expected a list of at most 20 sentences"),
        ({"warnings": ["a"] * 21}, "warnings: expected a list of at most 20 sentences"),
        ({"warnings": ["a", 7]}, "warnings 1: expected a text of 1 to 1,000 characters"),
        ({"warnings": ["a" * 1001]}, "warnings 0: expected a text of 1 to 1,000 characters"),
    ],
)
def test_a_damaged_metrics_file_is_refused_by_name(read_all, evaluate, content, why):
    evaluate(**content)
    with pytest.raises(DataError, match=rf"metrics\.json: {re.escape(why)}"):
        read_all([RESULT])


def test_images_that_predict_does_not_list_are_told(read_all):
    everything = ("images/0.jpg", "images/1.jpg", "images/2.jpg")
    assert read_all(list_images(*everything)).warnings == ()
    assert read_all(list_images(*everything, "a.jpg", "b.jpg")).warnings == (
        "Entries of images that are not in val are left out: 2 of 5.",
    )
    assert read_all(list_images("images/1.jpg", "a.jpg")).warnings == (
        "Entries of images that are not in val are left out: 1 of 2.",
        "The file does not list 2 of the 3 images of val: objects there count as not found.",
    )
    assert read_all(list_images()).warnings == (
        "The file does not list 3 of the 3 images of val: objects there count as not found.",
    )


def test_images_without_results_are_told_where_they_are_many_or_the_file_is_of_others(read_all):
    no_detection = "The file has no detection on {} of the 3 images of val: objects there count as "
    # An image without objects rightly has no results.
    assert read_all(detect_on(10, 11)).warnings == ()
    assert read_all(detect_on(11, 11)).warnings == (f"{no_detection.format(2)}not found.",)
    assert read_all([]).warnings == (f"{no_detection.format(3)}not found.",)
    assert read_all(detect_on(10, 11, 98, 99, 99)).warnings == (
        "Entries of images that are not in val are left out: 3 of 5.",
        f"{no_detection.format(1)}not found.",
    )
    assert read_all(detect_on(10, 11, 12, 99)).warnings == (
        "Entries of images that are not in val are left out: 1 of 4.",
    )


def test_an_evaluation_of_further_splits_has_entries_of_others_by_right(read_all, evaluate):
    evaluate(split="trainval")
    assert read_all(detect_on(10, 11, 98)).warnings == ()
    (warning,) = read_all(detect_on(10, 98)).warnings
    assert warning.startswith("The file has no detection on 2 of the 3 images")
    # A model may find nothing on the ones that are judged.
    assert read_all(detect_on(98)).detections == [[], [], []]
    evaluate(split="val")
    assert len(read_all(detect_on(10, 11, 98)).warnings) == 2


def test_boxes_outside_of_their_images_are_told(read_all):
    outside = [{**RESULT, "image_id": 10, "bbox": box} for box in ([300, 0, 9, 9], [20, 10, 0, 9])]
    found = read_all([*detect_on(10, 11, 12), *outside])
    assert [len(one) for one in found.detections] == [1, 1, 1]
    assert found.warnings == ("Boxes without area inside their image are left out: 2 of 5.",)
    # An image is known by its entry, whatever becomes of the box.
    assert len(read_all([*outside, *detect_on(99)]).warnings) == 3


def test_predicts_own_numbers_are_not_taken_for_those_of_the_records(tmp_path):
    results = tmp_path / COCO_RESULTS_NAME
    results.write_text(json.dumps(detect_on(11)))
    assert len(read_predictions(results, SAMPLES, MANIFEST, "val").detections[1]) == 1
    (tmp_path / "predictions.json").write_text(json.dumps(list_images("images/1.jpg")))
    with pytest.raises(ConfigError, match="predict's own numbers") as caught:
        read_predictions(results, SAMPLES, MANIFEST, "val")
    assert str(tmp_path / "predictions.json") in caught.value.remedy


def test_a_folder_or_a_file_is_found_and_a_model_is_not(tmp_path):
    (tmp_path / "model").mkdir()
    assert find_predictions(tmp_path / "model") is None
    file = tmp_path / "predictions.json"
    file.write_text("[]")
    assert find_predictions(tmp_path) == find_predictions(file) == file
