import pytest

from detflow.data.findings import Finding
from detflow.data.making import RecordOptions, describe_audit, publish_records
from detflow.data.report.page import CARDS_PER_CODE, LINES_PER_CODE, render_report

EVIL = '"><script>alert(1)</script>{{ 7*7 }}&\u202e\n'


def fill(voc_set, count):
    for number in range(count):
        voc_set.add(
            f"image{number:04}",
            voc_set.object("cat"),
            voc_set.object("dog", (30, 5, 60, 40)),
        )


def test_a_page_of_a_few_images(voc_set, page):
    fill(voc_set, 6)
    # The others are sound: where half of them lie far outside, all are of another picture.
    sound = [voc_set.object("cat", (2, 2, side, side)) for side in (20, 30)]
    voc_set.add("outside", voc_set.object("cat", (51, 41, 94, 60)), *sound)
    found = page()
    found.require_inert()
    found.require_links("totals", "repaired", "classes", "boxes", "samples")
    assert found.text_of("p[@class='lead']") == (
        "7 images with 15 objects of 2 classes. 1 repair was made."
    )
    assert found.html == page().html


def test_boxes_before_and_after_are_in_the_picture(voc_set, page):
    # The others are sound: where half of them lie far outside, all are of another picture.
    sound = [voc_set.object("cat", (2, 2, side, side)) for side in (20, 30)]
    voc_set.add("outside", voc_set.object("cat", (51, 41, 94, 60)), *sound)
    found = page()
    [before], [after] = (found.find(f"rect[@class='{kind}']") for kind in ("before", "after"))
    names = ("x", "y", "width", "height")
    assert [float(before.get(name)) for name in names] == [50, 40, 44, 20]
    assert [float(after.get(name)) for name in names] == [50, 40, 14, 8]
    # The view goes on where the written box does, up to a fifth of the image, and a margin.
    assert before.getparent().get("viewbox") == "0 0 78.08 58.56"
    [key] = found.find("section[@id='repaired']/p[span]")
    assert " ".join(key.text_content().split()) == "as written as mended thin: the other objects"


def test_hostile_text_stays_text(voc_set, page):
    voc_set.add("a", voc_set.object("&lt;script&gt;alert(1)&lt;/script&gt;"))
    voc_set.add("b", voc_set.object("{{ 7*7 }}{% for"), filename="b.jpg")
    name = '"><img src=x onerror=alert(1)>'
    voc_set.add(name, filename=None)
    findings = [
        Finding("class_unknown", EVIL, value=EVIL, expected=EVIL, related=(EVIL,)),
        Finding("box_tiny", "\udcff.xml"),
    ]
    found = page(findings=findings)
    found.require_inert()
    assert not found.find("img")
    assert found.html.encode()
    assert "\u202e" not in found.html
    shown = EVIL.replace("\u202e", "\\u202e").replace("\n", "\\n")
    assert f"{shown} · expected {shown} · see also {shown}" in found.text
    assert "\\udcff.xml" in found.text
    classes = [row[0] for row in found.rows("section[@id='classes']")]
    assert {"<script>alert(1)</script> 1", "{{ 7*7 }}{% for 3"} <= set(classes)
    assert f"images/{name}.jpg" in found.texts("section[@id='samples']//figcaption/div")


def test_totals_add_up(voc_set, page):
    fill(voc_set, 5)
    voc_set.add("zero", voc_set.object(), voc_set.object("cat", (9, 9, 9, 9)))
    voc_set.add("broken", image=b"\xff\xd8\xff nothing")
    voc_set.write("annotations/alone.xml", voc_set.xml(voc_set.object(), filename="gone.jpg"))
    voc_set.write("images/unlabelled.jpg", voc_set.encode(voc_set.draw(seed=99)))
    voc_set.write("annotations/evil.xml", "<!DOCTYPE annotation><annotation/>")
    found = page()
    labels = [chart.get("aria-label") for chart in found.find("div[@class='sum']//svg[@role]")]
    assert labels == [
        "9 = 6 used + 2 set aside + 1 refused",
        "8 = 6 used + 1 of annotations that are not used + 1 without an annotation",
        "12 = 11 used + 1 left out",
    ]
    sums = [
        (what.split()[0], *(int(part.split()[0]) for part in parts))
        for what, parts in zip(
            found.texts("div[@class='what']"),
            (legend.xpath("./li/text()") for legend in found.find("ul[@class='legend']")),
            strict=True,
        )
    ]
    assert sums == [("9Annotations", 6, 2, 1), ("8Images", 6, 1, 1), ("12Objects", 11, 1)]
    assert "1 refused: no records are written" in found.text_of("p[@class='lead']")


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
    assert "The splits come from the dataset's folders." in found.text
    assert found.rows("section[@id='totals']") == [
        ["split", "images", "objects", "share", ""],
        ["train", "7", "7", "77.8 %", ""],
        ["val", "2", "2", "22.2 %", ""],
        ["all", "9", "9", "", ""],
    ]
    assert found.rows("section[@id='classes']") == [
        ["class", "", "objects", "train", "val", "images", "sizes"],
        ["cat 1", "", "8", "6", "2", "8", ""],
        ["zebra 2", "", "1", "1", "0", "1", ""],
        ["all", "", "9", "7", "2", "", ""],
    ]
    assert "a split has no object of a class" in found.text


def test_two_images_that_a_finding_names_stand_side_by_side(voc_set, page):
    fill(voc_set, 3)
    leak = Finding(
        "split_leak",
        "annotations/image0000.xml",
        image="images/image0000.jpg",
        related=("annotations/image0001.xml",),
    )
    found = page(findings=[leak])
    [card] = found.find("figure[@class='card wide']")
    assert [picture.get("aria-label") for picture in card.xpath(".//svg")] == [
        "images/image0000.jpg",
        "images/image0001.jpg",
    ]


def test_the_objects_of_an_ambiguous_annotation_lie_over_each_candidate(voc_set, page):
    fill(voc_set, 3)
    for seed, folder in enumerate(("a", "b"), start=50):
        voc_set.write(f"{folder}/open.jpg", voc_set.encode(voc_set.draw(seed=seed)))
    voc_set.write(
        "annotations/open.xml",
        voc_set.xml(voc_set.object(box=(11, 6, 30, 25)), filename="open.jpg"),
    )
    found = page()
    [card] = found.find("div[@id='image_ambiguous']//figure")
    pictures = card.xpath(".//svg")
    assert [picture.get("aria-label").split(",")[0] for picture in pictures] == [
        "a/open.jpg",
        "b/open.jpg",
    ]
    for picture in pictures:
        under, box = picture.xpath("./rect")
        assert (under.get("class"), box.get("class")) == ("under", "before")
        for rectangle in (under, box):
            place = [rectangle.get(name) for name in ("x", "y", "width", "height")]
            assert place == ["10", "5", "20", "20"]
    assert found.texts("section[@id='quarantined']//p[@class='mono']") == [
        "a/open.jpg",
        "b/open.jpg",
    ]
    assert "as written" in found.text_of("section[@id='quarantined']/p[span]")


def test_each_line_over_a_picture_has_a_darker_one_under_it(voc_set, page):
    """A white line is not seen on white paper."""
    voc_set.add("outside", voc_set.object("cat", (51, 41, 94, 60)), voc_set.object("dog"))
    found = page()
    for picture in found.find("svg[@class='picture']"):
        classes = [rectangle.get("class") or "colour" for rectangle in picture.xpath("./rect")]
        assert classes
        for under, line in zip(classes[::2], classes[1::2], strict=True):
            assert under == ("under thin" if line == "faint" else "under")


def test_faults_stand_before_samples(voc_set, page):
    fill(voc_set, 3)
    # The others are sound: where half of them lie far outside, all are of another picture.
    sound = [voc_set.object("cat", (2, 2, side, side)) for side in (20, 30)]
    voc_set.add("outside", voc_set.object("cat", (51, 41, 94, 60)), *sound)
    voc_set.add("broken", image=b"\xff\xd8\xff nothing")
    voc_set.write("annotations/evil.xml", "<!DOCTYPE annotation><annotation/>")
    sections = [section.get("id") for section in page().find("section")]
    assert sections == [
        "totals",
        "refused",
        "quarantined",
        "repaired",
        "classes",
        "boxes",
        "samples",
    ]


def test_galleries_are_capped_and_say_so(voc_set, page):
    fill(voc_set, 4)
    many = [
        Finding("box_tiny", "annotations/image0000.xml", line=i, value=f"number {i}")
        for i in range(100)
    ]
    found = page(findings=many)
    group = "div[@id='box_tiny']"
    assert found.text_of(f"{group}//h3").startswith("100 × the box is less than")
    assert len(found.find(f"{group}//figure")) == CARDS_PER_CODE
    lines = found.texts(f"{group}//li")
    assert len(lines) == LINES_PER_CODE
    assert lines[-1] == "annotations/image0000.xml:47 number 47"
    shown = f"{CARDS_PER_CODE + LINES_PER_CODE} of 100 are shown."
    assert found.text_of(f"{group}/p[@class='more']") == f"{shown} ledger.jsonl has all of them."
    without = page(ledger=None, findings=many)
    assert without.text_of(f"{group}/p[@class='more']") == shown


def test_many_classes_do_not_make_a_long_page(voc_set, page):
    for number in range(30):
        voc_set.add(
            f"i{number}",
            *(voc_set.object(f"class{number * 4 + i}", (1 + i, 1, 20, 20)) for i in range(4)),
        )
    found = page()
    assert "The 60 most frequent of 120 classes." in found.text
    assert len(found.rows("section[@id='classes']")) == 1 + 60 + 1
    assert "The 16 classes in most images are shown, of 120." in found.text
    pictures = found.find("section[@id='samples']//svg[@class='picture']")
    assert 16 <= len(pictures) <= 48


def test_an_image_that_is_turned_or_damaged_is_shown(voc_set, page):
    exif = voc_set.draw().getexif()
    exif[0x0112] = 6
    voc_set.add("turned", image=voc_set.encode(voc_set.draw(48, 64), exif=exif))
    sound = voc_set.encode(voc_set.draw(seed=5))
    voc_set.add("cut", image=sound[: len(sound) * 2 // 3])
    voc_set.add("garbage", image=b"\xff\xd8\xff nothing")
    found = page()
    views = {
        picture.get("aria-label"): picture.get("viewbox")
        for picture in found.find("svg[@class='picture']")
    }
    assert views == {
        "images/turned.jpg": "0 0 64 48",
        "images/turned.jpg, as stored": "0 0 48 64",
        "images/turned.jpg, as EXIF turns it, used": "0 0 64 48",
        "images/cut.jpg": "0 0 64 48",
    }
    for label in ("as stored", "as EXIF turns it, used"):
        [box] = found.find(f"svg[@aria-label='images/turned.jpg, {label}']/rect[@class='before']")
        assert [box.get(name) for name in ("x", "y", "width", "height")] == ["9", "9", "21", "21"]
    assert found.texts("div[@class='pictures']//p") == ["as stored", "as EXIF turns it, used"]
    assert "images/garbage.jpgcannot be shown" in found.texts("div[@class='nothing']")


def test_an_image_that_went_away_does_not_matter(voc_set, audited):
    fill(voc_set, 3)
    audit = audited()
    (voc_set.root / "images/image0000.jpg").unlink()
    html = render_report(audit, describe_audit(audit, RecordOptions()), None)
    assert "cannot be shown" in html


def test_a_dataset_without_anything_usable_has_a_page(voc_set, page):
    voc_set.add("broken", image=b"\xff\xd8\xff nothing")
    found = page()
    assert found.text_of("p[@class='lead']") == (
        "0 images with 0 objects of 0 classes. 1 annotation was set aside."
    )
    assert found.texts("section[@id='quarantined']/h2") == ["Set aside"]


def test_nothing_to_mend_is_said(voc_set, page):
    fill(voc_set, 3)
    voc_set.write("images/empty.jpg", voc_set.encode(voc_set.draw(seed=77)))
    voc_set.write("annotations/empty.xml", voc_set.xml(filename="empty.jpg"))
    assert page().text_of("p[@class='lead']") == (
        "4 images with 6 objects of 2 classes. Every annotation could be used as it is."
    )


@pytest.mark.parametrize("report", [True, False])
def test_make_records_writes_it_unless_told_not_to(voc_set, tmp_path, report, parse_page):
    fill(voc_set, 4)
    publish_records(voc_set.root, tmp_path / "records", RecordOptions(report=report, jobs=1))
    written = tmp_path / "records/report.html"
    assert written.exists() == report
    if report:
        assert parse_page(written.read_text()).text_of("h1") == "set"


def test_the_report_changes_no_other_file(voc_set, tmp_path):
    fill(voc_set, 4)
    for name, report in (("with", True), ("without", False)):
        publish_records(voc_set.root, tmp_path / name, RecordOptions(report=report, jobs=1))
    names = {path.name for path in (tmp_path / "with").iterdir()} - {"report.html"}
    assert names == {path.name for path in (tmp_path / "without").iterdir()}
    for name in names:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
