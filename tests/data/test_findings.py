import re
from pathlib import Path

import pytest

from detflow.data.findings import Finding
from detflow.data.rules import RULES, Action
from detflow.types import CornerFrame

ROOT = Path(__file__).resolve().parents[2]


def test_a_finding_survives_the_ledger():
    finding = Finding(
        "box_clipped",
        "a\nb.xml",
        3,
        2,
        "cat: xmin 0",
        "inside 4x4",
        "a.jpg",
        (0.0, 1.0, 2.0, 3.5),
        (1.0, 1.0, 2.0, 3.5),
        ("x", "y"),
        frame=CornerFrame.ZERO_BASED,
    )
    assert Finding.from_json(finding.to_json()) == finding
    assert Finding.from_json(Finding("no_objects", "a.xml").to_json()) == Finding(
        "no_objects", "a.xml"
    )
    assert "\n" not in finding.to_json()


def test_a_finding_is_one_line_with_place_value_and_remedy():
    text = str(Finding("size_wrong", "d/a\n.xml", 7, value="3x4", expected="4x3"))
    assert text == (
        "d/a\\n.xml:7: the annotation's <size> differs from the image (3x4), expected 4x3; "
        "taken from the pixels"
    )


def test_a_finding_shows_no_token_of_an_address():
    value = "https://host/a.jpg?sig=aGVsbG8%3D&w=5"
    assert Finding("image_missing", "a.xml", value=value).value == "https://host/a.jpg?sig=…&w=5"


def test_an_unknown_code_cannot_exist():
    with pytest.raises(ValueError, match="no rule for a dataset has the code 'oops'"):
        Finding("oops", "a.xml")


def test_every_rule_stands_in_the_docs_under_its_action():
    text = (ROOT / "docs" / "repairs.md").read_text(encoding="utf-8")
    documented = []
    section = None
    for line in text.splitlines():
        if line.startswith("## "):
            section = next((action for action in Action if action.value in line.lower()), None)
        if section is None:
            # Other tables, such as that of the topics that a person decides.
            continue
        for code in re.findall(r"^\| `(\w+)`", line):
            documented.append((code, section))
    assert sorted(documented) == sorted((code, rule.action) for code, rule in RULES.items())
