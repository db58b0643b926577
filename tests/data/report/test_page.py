import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from detflow.data.convert import ConversionOptions, convert_dataset, describe_audit
from detflow.data.findings import Finding
from detflow.data.judging.audit import AuditOptions, audit_dataset
from detflow.data.report.page import CARDS_PER_CODE, LINES_PER_CODE, render_report
from detflow.data.workers.processes import ProcessMap
from detflow.storage.folders import LocalFolder

EVIL = '"><script>alert(1)</script>&\u202e\n'


class Page(HTMLParser):
    """What a browser would make of the page: elements with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.elements = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data

    def named(self, tag, css_class=None):
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and (css_class is None or css_class in attrs.get("class", "").split())
        ]

    def labels(self):
        return [attrs["aria-label"] for _, attrs in self.elements if "aria-label" in attrs]


@pytest.fixture
def audited(voc_set, tmp_path):
    def audited(**options):
        work_dir = tmp_path / "work"
        work_dir.mkdir(exist_ok=True)
        return audit_dataset(
            LocalFolder.of(voc_set.root),
            AuditOptions(**options),
            work_dir,
            ProcessMap(None, 1),
            lambda what, done, total: None,
        )

    return audited


@pytest.fixture
def page(audited):
    def page(ledger="ledger.jsonl", findings=(), **options):
        audit = audited(**options)
        with open(audit.findings_path, "a", encoding="utf-8") as file:
            file.writelines(finding.to_json() + "\n" for finding in findings)
        return Page(render_report(audit, describe_audit(audit, ConversionOptions()), ledger))

    return page


def fill(voc_set, count, **options):
    for number in range(count):
        voc_set.add(
            f"image{number:04}",
            voc_set.object("cat"),
            voc_set.object("dog", (30, 5, 60, 40)),
            **options,
        )


def test_the_page_fetches_and_runs_nothing(voc_set, page):
    fill(voc_set, 6)
    voc_set.add("outside", voc_set.object("cat", (50, 40, 90, 60)))
    found = page()
    assert "http" not in found.html.replace("http-equiv", "")
    assert not found.named("script")
    assert not found.named("link")
    for tag, attrs in found.elements:
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "src")]
        assert attrs.get("href", "#").startswith(
            "data:image/jpeg;base64," if tag == "image" else "#"
        )
    [policy] = [
        attrs["content"]
        for attrs in found.named("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    style = re.search(r"<style>(.*?)</style>", found.html, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_text_stays_text(voc_set, page):
    voc_set.add("a", voc_set.object("&lt;script&gt;alert(1)&lt;/script&gt;"))
    voc_set.add("b", voc_set.object("cat", (0, 0, 99, 99)), filename="b.jpg", extra="")
    name = '"><img src=x onerror=alert(1)>'
    voc_set.add(name, filename=None)
    findings = [
        Finding("class_unknown", EVIL, value=EVIL, expected=EVIL, related=(EVIL,)),
        Finding("box_tiny", "\udcff.xml"),
    ]
    found = page(findings=findings)
    assert not found.named("script")
    assert not found.named("img")
    assert "<script>alert(1)</script>" in found.text
    assert "\\u202e\\n" in found.text
    assert "\u202e" not in found.html
    assert found.html.encode()


def test_the_page_is_the_same_on_every_run(voc_set, page):
    fill(voc_set, 12)
    assert page().html == page().html


def test_totals_add_up(voc_set, page):
    fill(voc_set, 5)
    voc_set.add("zero", voc_set.object(), voc_set.object("cat", (9, 9, 9, 9)))
    voc_set.add("broken", image=b"\xff\xd8\xff nothing")
    voc_set.write("annotations/alone.xml", voc_set.xml(voc_set.object(), filename="gone.jpg"))
    voc_set.write("images/unlabelled.jpg", voc_set.encode(voc_set.draw(seed=99)))
    voc_set.write("annotations/evil.xml", "<!DOCTYPE annotation><annotation/>")
    found = page()
    sums = {}
    for label in found.labels():
        if " = " in label:
            total, parts = label.split(" = ")
            numbers = [int(part.split()[0].replace(",", "")) for part in parts.split(" + ")]
            assert int(total.replace(",", "")) == sum(numbers), label
            sums[len(sums)] = (int(total), numbers)
    assert sums == {0: (9, [6, 2, 1]), 1: (8, [6, 1, 1]), 2: (12, [11, 1])}


def test_each_class_and_split_is_in_the_tables(voc_set, page):
    for split, count in (("train", 6), ("val", 2)):
        for number in range(count):
            voc_set.add(
                f"{split}{number}", images=f"{split}/images", annotations=f"{split}/annotations"
            )
    voc_set.add(
        "only", voc_set.object("zebra"), images="train/images", annotations="train/annotations"
    )
    found = page()
    assert "Splits come from the dataset's folders." in found.text
    assert "a split has no object of a class" in found.text
    assert "8,1" not in found.text
    cells = re.findall(r"<td>([^<]*)</td>", found.html)
    assert {"train", "val", "7", "2", "9"} <= set(cells)


def test_boxes_before_and_after_are_in_the_picture(voc_set, page):
    voc_set.add("outside", voc_set.object("cat", (51, 41, 94, 60)))
    found = page()
    [before], [after] = found.named("rect", "before"), found.named("rect", "after")
    assert [float(before[key]) for key in ("x", "y", "width", "height")] == [50, 40, 44, 20]
    assert [float(after[key]) for key in ("x", "y", "width", "height")] == [50, 40, 14, 8]
    views = [attrs["viewbox"] for attrs in found.named("svg", "picture")]
    assert (
        "0 0 78.08 58.56" in views
    )  # The view goes on where the written box does, up to a fifth, and a margin.


def test_a_box_without_area_gets_a_ring(voc_set, page):
    image = voc_set.encode(voc_set.draw(640, 480))
    voc_set.add(
        "zero", voc_set.object(), voc_set.object("cat", (9, 9, 9, 9)), image=image, size=(640, 480)
    )
    assert len(page().named("circle", "before")) == 1


def test_two_images_that_a_finding_names_stand_side_by_side(voc_set, page):
    fill(voc_set, 3)
    leak = Finding(
        "split_leak",
        "annotations/image0000.xml",
        image="images/image0000.jpg",
        related=("annotations/image0001.xml",),
    )
    found = page(findings=[leak])
    assert len(found.named("figure", "wide")) == 1
    after = found.html.split("split_leak", 1)[1]
    assert after.index('aria-label="images/image0000.jpg"') < after.index(
        'aria-label="images/image0001.jpg"'
    )


def test_galleries_are_capped_and_say_so(voc_set, page):
    fill(voc_set, 4)
    many = [
        Finding("box_tiny", "annotations/image0000.xml", line=i, value=f"number {i}")
        for i in range(100)
    ]
    found = page(findings=many)
    assert "100 × the box is less than" in found.text
    assert (
        f"{CARDS_PER_CODE + LINES_PER_CODE} of 100 are shown. ledger.jsonl has all of them."
        in found.text
    )
    assert f"{LINES_PER_CODE} more as text" in found.text
    assert "number 47" in found.text
    assert "number 48" not in found.text
    assert "has all of them" not in page(ledger=None, findings=many).text


def test_many_classes_do_not_make_a_long_page(voc_set, page):
    for number in range(30):
        voc_set.add(
            f"i{number}",
            *(voc_set.object(f"class{number * 4 + i}", (1 + i, 1, 20, 20)) for i in range(4)),
        )
    found = page()
    assert "The 60 most frequent of 120 classes." in found.text
    assert "The 16 classes in most images are shown, of 120." in found.text
    assert len(found.named("svg", "picture")) <= 48


def test_an_image_that_is_turned_or_damaged_is_shown(voc_set, page):
    exif = voc_set.draw().getexif()
    exif[0x0112] = 6
    lying = voc_set.encode(voc_set.draw(48, 64), exif=exif)
    voc_set.add("turned", image=lying)
    sound = voc_set.encode(voc_set.draw(seed=5))
    voc_set.add("cut", image=sound[: len(sound) * 2 // 3])
    voc_set.add("garbage", image=b"\xff\xd8\xff nothing")
    found = page()
    views = {attrs["aria-label"]: attrs["viewbox"] for attrs in found.named("svg", "picture")}
    assert views["images/turned.jpg"] == "0 0 64 48"
    assert views["images/cut.jpg"] == "0 0 64 48"
    assert "images/garbage.jpg" not in views
    assert "cannot be shown" in found.text


def test_an_image_that_went_away_does_not_matter(voc_set, audited):
    fill(voc_set, 3)
    audit = audited()
    (voc_set.root / "images/image0000.jpg").unlink()
    assert "cannot be shown" in render_report(
        audit, describe_audit(audit, ConversionOptions()), None
    )


def test_a_dataset_without_anything_usable_has_a_page(voc_set, page):
    voc_set.add("broken", image=b"\xff\xd8\xff nothing")
    found = page()
    assert "0 images with 0 objects of 0 classes." in found.text
    assert "Set aside" in found.text


def test_negatives_and_no_class_in_a_split(voc_set, page):
    fill(voc_set, 3)
    voc_set.write("images/empty.jpg", voc_set.encode(voc_set.draw(seed=77)))
    voc_set.write("annotations/empty.xml", voc_set.xml(filename="empty.jpg"))
    assert "objects per image" in page().labels()


def test_make_records_writes_it_unless_told_not_to(voc_set, tmp_path):
    fill(voc_set, 4)
    convert_dataset(voc_set.root, tmp_path / "with", ConversionOptions())
    convert_dataset(voc_set.root, tmp_path / "without", ConversionOptions(report=False))
    assert "<h1>set</h1>" in (tmp_path / "with/report.html").read_text()
    assert not (tmp_path / "without/report.html").exists()
    names = {path.name for path in (tmp_path / "with").iterdir()} - {"report.html"}
    assert names == {path.name for path in (tmp_path / "without").iterdir()}
    for name in names:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
