from detflow.serving.answers import describe_signatures, to_columns, to_row
from detflow.types import Box, Detection


def test_columns_are_padded_as_the_contract_says():
    one = Detection("cat", 2, 0.5, Box(0.1, 0.2, 0.3, 0.4))
    assert to_columns([to_row([one, one]), to_row([]), to_row([one])]) == {
        "detection_boxes": [
            [[0.1, 0.2, 0.3, 0.4]] * 2,
            [[0.0] * 4] * 2,
            [[0.1, 0.2, 0.3, 0.4], [0.0] * 4],
        ],
        "detection_scores": [[0.5, 0.5], [0.0, 0.0], [0.5, 0.0]],
        "detection_classes": [[2.0, 2.0], [1.0, 1.0], [2.0, 1.0]],
        "num_detections": [2.0, 0.0, 1.0],
    }


def test_each_signature_has_one_input_and_all_outputs():
    signatures = describe_signatures()
    assert set(signatures) == {"serving_default", "image_bytes", "tf_example"}
    assert {len(one["inputs"]) for one in signatures.values()} == {1}
    pixels = signatures["serving_default"]["inputs"]["image_tensor"]
    assert [side["size"] for side in pixels["tensor_shape"]["dim"]] == ["-1", "-1", "-1", "3"]
