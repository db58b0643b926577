"""What the card says in words, from the values of model.json."""

import pytest

from detflow.exporting.facts import (
    CLASS_HEADS,
    describe_quality,
    describe_threshold,
    list_class_rows,
    list_contracts,
    list_origin,
    list_warnings,
)


def test_the_headline_is_of_the_test_split_with_images_objects_and_range(card_values):
    assert describe_quality(card_values["quality"]) == (
        "AP 0.614 (0.55–0.68 at 90 %), AP50 0.803 on split test: 54 images with 294 objects (and "
        "26 difficult, which no number counts), which had no part in the training."
    )


def test_the_validation_is_named_as_what_chose_the_checkpoint(card_values):
    quality = card_values["quality"] | {
        "role": "validation",
        "split": "val",
        "difficult": 0,
        "images_of_split": 2000,
        "intervals": {"AP": None, "AP50": None},
    }
    assert describe_quality(quality) == (
        "AP 0.614 (too few images for a range), AP50 0.803 on split val: 54 of 2,000 images with "
        "294 objects, which chose the checkpoint, so that AP flatters a little; no other "
        "split is left for a test."
    )


def test_pictures_that_were_trained_on_give_no_ap(card_values):
    quality = {"role": "none", "why_not": "there is no split that the model was not trained on"}
    values = card_values | {
        "quality": quality,
        "parity": card_values["parity"] | {"role": "training"},
    }
    assert describe_quality(quality) == (
        "No AP is stated: there is no split that the model was not trained on."
    )
    (warning,) = list_warnings(values)
    assert "proved on pictures that the model was trained on" in warning
    assert list_class_rows(quality) == []
    assert describe_threshold(values).startswith("Nothing was measured")


@pytest.mark.parametrize(
    ("twins", "words"), [(1, "1 image of test is"), (3, "3 images of test are")]
)
def test_near_duplicates_flatter(card_values, twins, words):
    (warning,) = list_warnings(card_values | {"quality": card_values["quality"] | {"twins": twins}})
    assert warning == (
        f"{words} nearly the same as one that the model was trained on: this AP flatters."
    )


def test_records_that_were_trained_on_before_may_have_held_the_judged_images(card_values):
    data = card_values["data"] | {"other_records": ["a" * 64, "b" * 64]}
    (warning,) = list_warnings(card_values | {"data": data})
    assert warning == (
        f"Before these records the model was trained on others ({'a' * 12}, {'b' * 12}): whether "
        "images of test were among them nobody knows."
    )
    nothing = {"role": "none", "why_not": "because"}
    assert list_warnings(card_values | {"data": data, "quality": nothing}) == []


@pytest.mark.parametrize("twins", [0, None])
def test_without_near_duplicates_nothing_flatters(card_values, twins):
    assert list_warnings(card_values | {"quality": card_values["quality"] | {"twins": twins}}) == []


def test_a_threshold_is_recommended_over_all_and_for_each_class(card_values):
    assert describe_threshold(card_values) == (
        "Recommended score threshold: 0.42. There F1 is best: precision 0.810, recall 0.770 "
        "on the images of test. The export drops detections below 0.01."
    )
    cat, dog = (
        dict(zip(CLASS_HEADS, row, strict=True)) for row in list_class_rows(card_values["quality"])
    )
    assert (cat["class"], cat["objects"], cat["range"], cat["threshold"]) == (
        *("cat", "200"),
        *("0.60–0.70", "0.40"),
    )
    assert (dog["range"], dog["threshold"], dog["F1"]) == ("n/a", "n/a", "n/a")


def test_the_origin_tells_data_weights_effort_and_what_chose(card_values):
    origin = list_origin(card_values)
    assert origin["exported"] == "2026-11-29 by detflow 0.1.0"
    assert origin["chosen by"] == "its AP, 0.630, on split val"
    assert origin["trained on"] == (
        "252 images with 1,919 objects: split train of records with the fingerprint bf9322e7aaaa"
    )
    assert origin["training took"] == "5.5 minutes, on 1 thread, float32, TensorFlow 2.20.0"
    assert list_origin(card_values | {"minutes": None})["training took"].startswith("on 1 thread")
    unknown = card_values["data"] | {"images": None, "objects_per_class": None}
    assert list_origin(card_values | {"data": unknown})["trained on"].startswith("split train of")
    few = card_values["data"] | {"overfit": 8, "images": 8, "objects_per_class": {"cat": 9}}
    assert list_origin(card_values | {"data": few})["trained on"].startswith(
        "8 images with 9 objects: the first 8 images of split train of records"
    )
    twice = card_values["data"] | {"earlier_splits": ["val"]}
    assert list_origin(card_values | {"data": twice})["trained on"].endswith(
        "bf9322e7aaaa, and before that on val of them"
    )


def test_a_choice_by_pictures_that_were_trained_on_is_called_that(card_values):
    chosen = card_values["chosen_by"] | {"split": "train", "is_training": True}
    assert list_origin(card_values | {"chosen_by": chosen})["chosen by"] == (
        "its AP, 0.630, on split train, with pictures that it was trained on"
    )
    assert "it is the last one" in list_origin(card_values | {"chosen_by": None})["chosen by"]


def test_initial_weights_are_named_with_their_data_and_licence(card_values):
    terms = {"name": "lite0", "data": "ImageNet", "licence": "Apache-2.0"}
    initial = {"source": "lite0.pth", "terms": terms}
    training = card_values["training"] | {"initial_weights": initial}
    told = list_origin(card_values | {"training": training})["initial weights"]
    assert all(word in told for word in ("lite0", "ImageNet", "Apache-2.0"))
    unknown = training | {"initial_weights": initial | {"terms": {}}}
    unknown["config"] = unknown["config"] | {"train": {"init_licence": "MIT"}}
    told = list_origin(card_values | {"training": unknown})["initial weights"]
    assert told == "lite0.pth, made from nobody knows what; stated licence MIT"
    assert list_origin(card_values)["initial weights"] == "none: trained from scratch"
    assert "initial weights" not in list_origin(card_values | {"training": None})


def test_each_entry_of_a_format_has_its_contract():
    plain, encoded = list_contracts("frozen")
    assert plain.takes == "image_tensor uint8 [N, height, width, 3]"
    assert encoded.takes == "encoded_image_string_tensor string [N]"
    assert plain.gives == encoded.gives
    assert plain.gives.startswith("detection_boxes float32 [N, K, 4], detection_scores float32")
    (lite,) = list_contracts("tflite")
    assert lite.takes == "image uint8 [1, height, width, 3]"
    assert lite.gives.startswith("boxes float32 [1, K, 4], classes float32 [1, K]")
