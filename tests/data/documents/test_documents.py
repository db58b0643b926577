import json
import re
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from lxml import etree

from detflow.data.documents import RENDERERS, sarif
from detflow.data.findings import Finding
from detflow.data.rules import RECORD_RULES, RULES, Severity, Where
from detflow.data.verdict import Verdict
from detflow.errors import DataError

SCHEMA = json.loads((Path(__file__).parent / "sarif-2.1.0-rtm.5.json").read_text())
VALIDATOR = Draft4Validator(SCHEMA)
FINDINGS = (
    Finding(
        "box_tiny", "a b/ü#%.xml", 3, 2, value="cat: xmin 1", image="a.jpg", before=(1, 2, 3, 4)
    ),
    Finding("image_missing", "b.xml", value="nope.jpg", related=("x/1.jpg", "y/1.jpg"), entry="7"),
    Finding("box_clipped", "c:d.xml", 9, 1, expected="inside 64x48", after=(1.0, 1.0, 2.0, 2.0)),
    Finding("split_empty", ".", value="val"),
)


def judge(findings=FINDINGS, path="set", refusal=None, subject="dataset"):
    return Verdict(subject, path, "", {"annotations_found": 5}, refusal, findings)


def render(name, *verdicts):
    return "".join(RENDERERS[name](verdicts))


# --- JSON -----------------------------------------------------------------------------------------


def test_json_has_the_numbers_and_every_finding():
    found = json.loads(render("json", judge()))
    assert found["annotations_found"] == 5
    assert found["refusal"] is None
    assert [finding["code"] for finding in found["findings"]] == [one.code for one in FINDINGS]
    assert found["findings"][1] == {
        "action": "quarantined",
        "code": "image_missing",
        "path": "b.xml",
        "value": "nope.jpg",
        "related": ["x/1.jpg", "y/1.jpg"],
        "entry": "7",
        "remedy": RULES["image_missing"].remedy,
    }
    refusal = DataError("nothing is usable", path="set")
    empty = json.loads(render("json", judge((), refusal=refusal)))
    assert (empty["refusal"], empty["findings"]) == ("set: nothing is usable", [])


def test_json_of_a_dataset_has_the_records_that_lie_in_it():
    records = judge(FINDINGS[:1], "set/records", subject="records")
    found = json.loads(render("json", judge(), records, records))
    assert (found["annotations_found"], len(found["findings"])) == (5, 4)
    assert [len(part["findings"]) for part in found["records"]] == [1, 1]
    found = json.loads(render("json", records, records))
    assert list(found) == ["records"]
    assert [part["annotations_found"] for part in found["records"]] == [5, 5]


def test_json_keeps_names_exactly():
    name = "\x1b[31m\udcff\u2028\n.xml"
    text = render("json", judge([Finding("image_missing", name)]))
    assert text.replace("\n", "").isprintable()
    assert json.loads(text)["findings"][0]["path"] == name


# --- SARIF ----------------------------------------------------------------------------------------


def test_sarif_is_valid_and_tells_rule_level_and_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refusal = DataError("unusable", path="set")
    log = json.loads(render("sarif", judge(path="my set", refusal=refusal), judge((), "records")))
    VALIDATOR.validate(log)
    assert log["version"] == "2.1.0"
    run = log["runs"][0]
    # What is worse comes first.
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("image_missing", "error"),
        ("box_tiny", "note"),
        ("box_clipped", "warning"),
        ("split_empty", "note"),
    ]
    for result in run["results"]:
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert places == [
        {"artifactLocation": {"uri": "my%20set/b.xml"}},
        {
            "artifactLocation": {"uri": "my%20set/a%20b/%C3%BC%23%25.xml"},
            "region": {"startLine": 3},
        },
        {"artifactLocation": {"uri": "my%20set/c%3Ad.xml"}, "region": {"startLine": 9}},
        {"artifactLocation": {"uri": "my%20set/"}},
    ]
    message = run["results"][0]["message"]["text"]
    assert message == (
        "No image belongs to the annotation: nope.jpg [x/1.jpg, y/1.jpg]. "
        "Add the image or remove the annotation."
    )
    assert run["results"][0]["properties"]["related"] == ["x/1.jpg", "y/1.jpg"]
    (invocation,) = run["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (True, 3)
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "set: unusable"
    prints = {result["partialFingerprints"]["detflow/v1"] for result in run["results"]}
    assert len(prints) == 4


def test_sarif_of_a_set_elsewhere_has_its_base(monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path, base in (
        (str(tmp_path / "other set"), f"file://{tmp_path}/other%20set/"),
        ("s3://bucket/a b", "s3://bucket/a%20b/"),
    ):
        log = json.loads(render("sarif", judge(path=path)))
        VALIDATOR.validate(log)
        (run,) = log["runs"]
        assert run["originalUriBaseIds"] == {"ROOT": {"uri": base}}
        place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
        assert place == {"uri": "b.xml", "uriBaseId": "ROOT"}
    (run,) = json.loads(render("sarif", judge(path=".")))["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "b.xml"}


def test_sarif_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(sarif, "MAX_RESULTS", 2)
    (run,) = json.loads(render("sarif", judge()))["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["image_missing", "box_tiny"]
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "2 more findings; --format json has all of them"


# --- JUnit ----------------------------------------------------------------------------------------


def test_junit_has_a_test_for_each_finding():
    refusal = DataError("unusable <&>", path="set")
    tree = etree.fromstring(render("junit", judge(), judge((), refusal=refusal)).encode())
    first, second = tree
    assert dict(first.attrib) == {
        "name": "detflow check set",
        "tests": "5",
        "failures": "1",
        "errors": "0",
        "skipped": "0",
    }
    cases = [(case.get("classname"), case.get("name"), len(case)) for case in first]
    assert cases == [
        ("detflow", "the dataset can be used", 0),
        ("detflow.box_tiny", "a b/ü#%.xml:3, object 2", 1),
        ("detflow.image_missing", "b.xml#7", 1),
        ("detflow.box_clipped", "c:d.xml:9, object 1", 1),
        ("detflow.split_empty", ".", 1),
    ]
    assert [child.tag for case in first for child in case] == [
        "system-out",
        "failure",
        "system-out",
        "system-out",
    ]
    assert first[1].get("line") == "3"
    assert first[2][0].get("message").startswith("no image belongs to the annotation (nope.jpg")
    assert second[0][0].get("message") == "set: unusable <&>"
    assert (second.get("tests"), second.get("failures")) == ("1", "1")


# --- All ------------------------------------------------------------------------------------------

rules = st.sampled_from([*RULES.values(), *RECORD_RULES.values()])
names = st.text(min_size=1, max_size=12)


@st.composite
def any_finding(draw):
    rule = draw(rules)
    is_record = rule.where is Where.RECORD
    return Finding(
        rule.code,
        draw(names),
        draw(st.none() | st.integers(0, 99)),
        draw(st.none() | st.integers(1, 9)),
        value=draw(names),
        expected=draw(names),
        image=draw(st.none() | names),
        related=tuple(draw(st.lists(names, max_size=2))),
        entry=draw(names),
        record=draw(st.integers(0, 9)) if is_record else None,
        offset=draw(st.integers(0, 9)) if is_record else None,
        where=rule.where,
    )


@given(st.lists(any_finding(), max_size=4), names)
def test_any_names_give_documents_that_can_be_read(findings, path):
    verdict = judge(findings, path.replace("\0", ""), DataError(path, path=path))
    errors = sum(finding.action.severity is Severity.ERROR for finding in findings)
    documents = {name: render(name, verdict) for name in RENDERERS}
    for text in documents.values():
        assert text.isascii()
        assert text.replace("\n", "").isprintable()
    assert len(json.loads(documents["json"])["findings"]) == len(findings)
    log = json.loads(documents["sarif"])
    VALIDATOR.validate(log)
    results = log["runs"][0]["results"]
    assert sum(result["level"] == "error" for result in results) == errors
    for result in results:
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"(?:[A-Za-z0-9_.~/-]|%[0-9A-F]{2})+", uri)
    named = {
        unquote(
            one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            errors="surrogateescape",
        )
        for one in results
    }
    assert all(any(uri.endswith(finding.path.lstrip(".")) for uri in named) for finding in findings)
    suite = etree.fromstring(documents["junit"].encode())[0]
    assert (len(suite), int(suite.get("failures"))) == (len(findings) + 1, errors + 1)


def test_the_command_prints_each(tmp_path, capsys):
    from PIL import Image

    from detflow.cli import main

    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text("<annotation>")
    printed = SimpleNamespace()
    for name in ("text", *RENDERERS):
        assert main.run(["check", str(tmp_path), "--jobs", "1", "--format", name]) == 3
        output = capsys.readouterr()
        setattr(printed, name, output.out)
        assert output.err.endswith(
            "none of 1 annotations is usable; correct the files named above\n"
        )
    assert "a.xml:1: " in printed.text
    assert json.loads(printed.json)["findings"][0]["code"] == "xml_malformed"
    assert json.loads(printed.sarif)["runs"][0]["results"][0]["level"] == "error"
    assert etree.fromstring(printed.junit.encode())[0].get("failures") == "2"
    assert main.run(["check", str(tmp_path), "--json", "--format", "junit"]) == 2
    assert main.run(["check", str(tmp_path), "--json", "--jobs", "1"]) == 3
    assert capsys.readouterr().out == printed.json


@pytest.mark.parametrize("name", RENDERERS)
def test_findings_may_be_read_once_at_a_time(name):
    """They are read from a file each time: a list is not needed."""

    class Again:
        def __iter__(self):
            return iter(FINDINGS)

    assert render(name, judge(Again())) == render(name, judge())
