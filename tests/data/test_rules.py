import pytest

from detflow.data.findings import Finding
from detflow.data.images.header import ImageFault
from detflow.data.rules import (
    CONSUMERS,
    RECORD_RULES,
    RULES,
    TABLE,
    UPLOAD_RULES,
    Action,
    Severity,
    Where,
)


def test_a_code_has_one_rule_in_each_place():
    assert len(TABLE) == len({(rule.where, rule.code) for rule in TABLE})
    assert len(TABLE) == len(RULES) + len(RECORD_RULES) + len(UPLOAD_RULES)


def test_what_stops_data_is_an_error_and_anything_else_a_warning():
    assert {action: action.severity for action in Action} == {
        Action.REPAIRED: Severity.WARNING,
        Action.QUARANTINED: Severity.ERROR,
        Action.REFUSED: Severity.ERROR,
        Action.NOTED: Severity.WARNING,
    }


def test_texts_are_clauses_that_a_message_can_join():
    for rule in TABLE:
        for text in (rule.meaning, rule.remedy):
            assert text == text.strip()
            assert not text.endswith((".", ";"))


def test_only_rules_for_tfrecord_files_name_consumers():
    for rule in TABLE:
        assert set(rule.blocks) <= set(CONSUMERS)
        assert rule.where is Where.RECORD or not rule.blocks


def test_one_code_may_mean_a_fault_in_several_places():
    repaired = Finding("box_inverted", "a.xml")
    refused = Finding("box_inverted", "a.tfrecord", where=Where.RECORD)
    assert (repaired.action, refused.action) == (Action.REPAIRED, Action.REFUSED)
    with pytest.raises(ValueError, match="no rule for a record has the code 'exif_applied'"):
        Finding("exif_applied", "a.tfrecord", where=Where.RECORD)


def test_a_picture_that_cannot_be_used_has_a_remedy():
    fault = ImageFault("image_unsupported", "gif with 2 frames", "one frame")
    assert fault.rule.remedy == "convert it to JPEG or PNG"
    assert str(fault) == "image unsupported: gif with 2 frames; expected one frame"
