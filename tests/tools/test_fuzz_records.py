import importlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "fuzz_records.py"


@pytest.fixture(scope="module")
def fuzz():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("fuzz_records")
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("fuzz", "fuzz_records")
    ]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def reader(fuzz):
    return importlib.import_module("fuzz.reader")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_fixed_slice_has_no_failure(fuzz):
    tally = fuzz.run_cases(seed=1, first=0, count=300)
    assert tally.failures == []
    assert tally.cases == 300
    # The slice is worth something only while cases reach both outcomes.
    assert tally.accepted > 75
    assert tally.changed > 25
    assert len(tally.refused) > 8
    assert tally.slowest[0] < fuzz.SECONDS_PER_CASE


def test_a_case_is_a_function_of_seed_and_number(fuzz):
    assert fuzz.build_case(1, 7) == fuzz.build_case(1, 7)
    assert len({fuzz.build_case(1, number) for number in range(20)}) == 20


def run(fuzz, monkeypatch, convert, count=80):
    monkeypatch.setattr(fuzz, "convert_case", convert)
    return "\n".join(fuzz.run_cases(seed=1, first=0, count=count).failures)


def changed(fuzz, change):
    """A converter that alters a sample's columns."""

    def convert(root, case):
        sample, findings = original(root, case)
        if sample is None or not sample.objects:
            return sample, findings
        return replace(sample, columns=change(sample.columns)), findings

    original = fuzz.convert_case
    return convert


def test_a_converter_that_moves_boxes_is_caught(fuzz, monkeypatch):
    def move(columns):
        (top, left, bottom, right), *rest = columns.boxes_yxyx
        return columns._replace(boxes_yxyx=[(top, left, bottom, left + (right - left) / 2), *rest])

    assert "labels differ" in run(fuzz, monkeypatch, changed(fuzz, move))


def test_a_converter_that_mixes_classes_up_is_caught(fuzz, monkeypatch):
    mix_up = changed(fuzz, lambda columns: columns._replace(names=["bird", *columns.names[1:]]))
    assert "labels differ" in run(fuzz, monkeypatch, mix_up)


def test_a_converter_that_loses_objects_is_caught(fuzz, monkeypatch):
    lose = changed(fuzz, lambda columns: type(columns)(*(column[:-1] for column in columns)))
    assert "labels differ" in run(fuzz, monkeypatch, lose)


@pytest.mark.slow
def test_a_converter_that_mends_in_silence_is_caught(fuzz, monkeypatch):
    original = fuzz.convert_case

    def convert(root, case):
        sample, findings = original(root, case)
        return sample, ([] if sample is not None else findings)

    failures = run(fuzz, monkeypatch, convert, count=300)
    for what in (
        "box changed, the ledger does not say so",
        "left out changed",
        "<size> is",
        "<filename> is",
    ):
        assert what in failures


def test_a_converter_that_drops_files_in_silence_is_caught(fuzz, monkeypatch):
    assert "lost without a word" in run(fuzz, monkeypatch, lambda root, case: (None, []))


def test_a_converter_that_guesses_is_caught(fuzz, monkeypatch, tmp_path):
    samples = (fuzz.convert_case(tmp_path, fuzz.build_case(1, number))[0] for number in range(50))
    sample = next(sample for sample in samples if sample is not None)
    assert "cannot be read beyond doubt" in run(fuzz, monkeypatch, lambda root, case: (sample, []))


def test_a_crash_and_a_hang_are_failures(fuzz, monkeypatch):
    def crash(root, case):
        raise ValueError("by intent")

    assert "crashes" in run(fuzz, monkeypatch, crash, count=2)

    def hang(root, case):
        try:
            time.sleep(30)
        except Exception:  # noqa: BLE001  What detflow itself might do.
            return None, []

    monkeypatch.setattr(fuzz, "SECONDS_PER_CASE", 0.05)
    assert "case 0: hangs" in run(fuzz, monkeypatch, hang, count=1)


@pytest.mark.parametrize(
    "number",
    [
        "nan",
        "inf",
        "1_000",
        "１２",
        "",
        "12abc",
        "0x10",
        "1e400",
        "--5",
        "1.2.3",
        "12,5",
        "1e",
        "True",
        "٣",
    ],
)
def test_the_second_reader_has_its_own_idea_of_a_number(reader, number):
    text = (
        f"<annotation><object><name>cat</name><bndbox><xmin>{number}</xmin><ymin>1</ymin>"
        "<xmax>30</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    with pytest.raises(reader.NotStrict):
        reader.read_strictly(text.encode(), (96, 64))


def test_the_second_reader_reads_what_is_beyond_doubt(reader):
    xml = (
        "<annotation><filename>a.jpg</filename><size><width>96</width><height>64</height></size>"
        "<object><name> c<!--x-->at </name><truncated>1</truncated>"
        "<bndbox><xmin>90</xmin><ymin>1</ymin><xmax>100</xmax><ymax>64</ymax></bndbox></object></annotation>"
    )
    read = reader.read_strictly(xml.encode(), (96, 64))
    assert (read.filename, read.size) == ("a.jpg", (96, 64))
    [found] = read.objects
    assert (found.name, found.difficult, found.truncated) == ("cat", False, True)
    assert found.box == pytest.approx((0.0, 89 / 96, 1.0, 1.0), abs=1e-7)
    assert read.deviations == {(1, "name"), (1, "box")}
    for wrong in (
        xml.replace("annotation", "note"),
        xml.replace("<xmax>", "<xmax><b/>"),
        "<!DOCTYPE a>" + xml,
        xml[:-5],
    ):
        with pytest.raises(reader.NotStrict):
            reader.read_strictly(wrong.encode(), (96, 64))


def test_the_command_line(fuzz, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        fuzz.main(["--cases", "5", "--keep", str(tmp_path / "case")])
    assert stop.value.code == 0
    assert "5 cases of seed 1" in capsys.readouterr().out
    assert (tmp_path / "case/a.xml").exists()
