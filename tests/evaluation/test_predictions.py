import json

import pytest

from detflow.errors import ConfigError, DataError
from detflow.evaluation.predictions import find_predictions, read_predictions
from detflow.label_map import LabelMap
from detflow.types import Box, Detection, ImageSize, Sample

LABELS = LabelMap(("cat", "dog"))
SIZE = ImageSize(200, 100)
SAMPLES = [Sample(f"k{n}", 10 + n, f"images/{n}.jpg", SIZE, b"", ()) for n in range(3)]
RESULT = {"image_id": 11, "category_id": 2, "bbox": [20, 10, 60, 40], "score": 0.5}
BOX = Box(0.1, 0.1, 0.5, 0.4)


@pytest.fixture
def read(tmp_path):
    def read_content(content, samples=SAMPLES):
        path = tmp_path / "predictions.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_predictions(path, samples, LABELS, "f" * 64)

    return read_content


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


def test_an_evaluation_of_other_records_is_refused(read, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    assert read([RESULT])[1]
    (tmp_path / "metrics.json").write_text(json.dumps({"fingerprint": "e" * 64}))
    with pytest.raises(ConfigError, match="fingerprint eeeeeeeeeeee, these have ffffffffffff"):
        read([RESULT])


def test_a_folder_or_a_file_is_found_and_a_model_is_not(tmp_path):
    (tmp_path / "model").mkdir()
    assert find_predictions(tmp_path / "model") is None
    file = tmp_path / "predictions.json"
    file.write_text("[]")
    assert find_predictions(tmp_path) == find_predictions(file) == file
