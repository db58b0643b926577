"""The report as a person uses it, in a real browser."""

import pytest

from detflow.data.findings import Finding


@pytest.fixture
def opened(browser, voc_set, page, tmp_path):
    """Opens the report of three images for training and two for validation, with findings."""
    sound = [voc_set.object("cat", (2, 2, side, side)) for side in (20, 30)]
    for split, names in {"train": "abc", "val": "de"}.items():
        folders = {"images": f"{split}/images", "annotations": f"{split}/annotations"}
        for name in names:
            extra = [voc_set.object("dog", (30, 5, 60, 40))] if name in "ad" else []
            if name == "b":
                extra = [voc_set.object("cat", (51, 41, 94, 60))]
            voc_set.add(name, *sound, *extra, **folders)
    many = [
        Finding("box_tiny", "train/annotations/c.xml", line=number, value=f"number {number}")
        for number in range(1, 31)
    ]
    path = tmp_path / "report.html"
    path.write_text(page(findings=many).html, encoding="utf-8")
    browser.open(path.as_uri())
    return browser


def shown(browser):
    """Returns the places of the findings and the names of the samples that are shown."""
    return browser.run(
        "[...document.querySelectorAll('figure[data-name]')].filter((one) => one.checkVisibility())"
        ".map((one) => one.dataset.name.split(' ')[0])"
    )


def test_a_reader_finds_what_is_looked_for(opened):
    everything = shown(opened)
    assert {one.split("/")[-1] for one in everything} >= {"a.jpg", "b.jpg", "c.jpg", "b.xml:1"}
    opened.choose("[data-choice=kind]", "box_clipped")
    assert shown(opened) == ["train/annotations/b.xml:1"]
    assert opened.text("#fitting").startswith("1 picture of ")
    # A heading without pictures is not shown, and neither is one of samples.
    assert [one.split(" ×")[0] for one in opened.texts("main h3") if "×" in one] == ["1"]
    opened.choose("[data-choice=kind]", "")
    opened.choose("[data-choice=split]", "val")
    assert {one.split("/")[-1] for one in shown(opened)} == {"d.jpg", "e.jpg"}
    opened.choose("[data-choice=class]", "2")
    assert {one.split("/")[-1] for one in shown(opened)} == {"d.jpg"}
    opened.click("#reset")
    assert shown(opened) == everything
    opened.choose("[data-choice=search]", "c.xml:22")
    lines = (
        "[...document.querySelectorAll('li[data-name]:not([hidden])')].map((one) => one.innerText)"
    )
    assert opened.run(lines) == ["train/annotations/c.xml:22 number 22"]
    assert opened.text("#fitting").startswith("0 pictures and 1 line of text of ")
    opened.click("#reset")
    opened.choose("[data-choice=sort]", "name")
    samples = [one for one in shown(opened) if one.endswith(".jpg")]
    for group in (samples[:5], samples[5:]):
        assert group == sorted(group)


def test_a_finding_is_enlarged_with_its_box_and_its_line(opened):
    opened.focus("#box_clipped .open")
    opened.press("Enter")
    assert opened.text("#enlarged-name") == "train/images/b.jpg"
    assert "train/annotations/b.xml:1" in opened.text("#enlarged-words")
    listed = opened.texts("#enlarged-boxes button")
    assert listed[:2] == ["as written", "as mended"]
    assert set(listed[2:]) == {"cat, train/annotations/b.xml:1"}
    # The picture has the pixels of the image.
    width = opened.run("document.querySelector('#enlarged-picture svg').viewBox.baseVal.width")
    # A box that leaves the image by thirty pixels widens what is shown by a fifth and a margin.
    assert width == pytest.approx(64 * 1.22)
    assert opened.find_barriers() == []
    opened.press("Escape")


def test_nobody_is_kept_out_and_paper_has_every_column(opened):
    assert opened.find_barriers() == []
    opened.resize(390, 844)
    opened.emulate(scheme="dark")
    opened.run("dispatchEvent(new Event('resize'))")
    assert opened.find_barriers() == []
    assert opened.run("document.documentElement.scrollWidth") == 390
    opened.resize(703, 1000)
    opened.emulate("print")
    cells = (
        "[...document.querySelectorAll('.scroll th, .scroll td')].filter((cell) =>"
        " cell.offsetWidth < 8 || cell.getBoundingClientRect().right > 704).length"
    )
    assert opened.run(cells) == 0
