import numpy as np
import pytest

from detflow.artifact import CONTRACT

MEASURED = {"metrics": {"AP": 0.51234, "AP50": 0.9}, "change": {"AP": -0.1, "AP50": 0.0}}
BEST = {"threshold": 0.42, "precision": 0.81, "recall": 0.77, "f1": 0.79}


def describe_format(paths, num_bytes, **entry):
    agreement = {"max_differences": None, "share_found": 0.985}
    entries = {paths[0]: {"path": paths[0], "p50_ms": 15.24} | agreement | entry}
    return {"paths": paths, "bytes": num_bytes, "entries": entries, "refused": {}, **MEASURED}


@pytest.fixture
def card_values():
    """What model.json says about an export of two formats."""
    frozen = ["frozen_inference_graph.pb", "frozen_inference_graph_encoded.pb"]
    cat = {"objects": 200, "AP": 0.65, "AP50": 0.9, "interval": [0.6, 0.7]}
    dog = {"objects": 0, "AP": None, "AP50": None, "interval": None, "best_f1": None}
    return {
        "exported": "2026-11-29",
        "classes": ["cat", "dog"],
        "contract": CONTRACT,
        "thresholds": {"score_threshold": 0.01, "nms_iou": 0.6, "max_detections": 100},
        "canvas_size": {"height": 128, "width": 96},
        "more_canvas_sizes": [],
        "checkpoint": {"name": "ckpt-100", "step": 1200, "metrics": {"AP": 0.63}},
        "quality": {
            "role": "test",
            "split": "test",
            "images": 54,
            "images_of_split": 54,
            "objects": 294,
            "difficult": 26,
            "twins": 0,
            "metrics": {"AP": 0.614, "AP50": 0.803},
            "level": 0.9,
            "intervals": {"AP": [0.551, 0.682], "AP50": [0.75, 0.85]},
            "best_f1": BEST,
            "classes": {"cat": cat | {"best_f1": BEST | {"threshold": 0.4}}, "dog": dog},
        },
        "chosen_by": {"split": "val", "metric": "AP", "value": 0.63, "is_training": False},
        "data": {
            "fingerprint": "bf9322e7" + "a" * 56,
            "split": "train",
            "overfit": None,
            "earlier_splits": [],
            "other_records": [],
            "images": 252,
            "objects_per_class": {"cat": 1900, "dog": 19},
        },
        "minutes": 5.46,
        "training": {
            "config": {"model": {"architecture": "retinanet"}},
            "threads": 1,
            "precision": "float32",
            "tensorflow": "2.20.0",
        },
        "parity": {
            "images": "records",
            "role": "held out",
            "source": "records val",
            "num_images": 20,
            **MEASURED,
        },
        "formats": {
            "frozen": describe_format(
                frozen, 12_400_000, max_differences={"detection_scores": 1e-7}
            ),
            "tflite": describe_format(["model.tflite"], 3_100_000),
        },
        "failed": {},
        "versions": {"python": "3.11.7", "detflow": "0.1.0"},
    }


def make_detections(*rows):
    """Outputs of detections (class, score, left side), and one entry of padding."""
    classes, scores, lefts = zip(*rows, (1, 0.0, 0.0), strict=True)
    return {
        "detection_boxes": np.array(
            [[(0.0, left, 0.5, left and left + 0.25) for left in lefts]], np.float32
        ),
        "detection_scores": np.array([scores], np.float32),
        "detection_classes": np.array([classes], np.float32),
        "num_detections": np.array([len(rows)], np.float32),
    }


@pytest.fixture
def detections():
    """Makes a format's outputs for one image."""
    return make_detections
