"""The page of an evaluation as a person uses it, in a real browser."""

import io

import numpy as np
import pytest
from PIL import Image

from detflow.data.records.places import SamplePlace
from detflow.evaluation.cards import choose_images
from detflow.evaluation.page import render_evaluation
from detflow.evaluation.plots import PLOTS
from detflow.metrics.errors import find_errors

SLIDER = "#threshold"


def encode_png():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (90, 90, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def write_page(drawn, analysis, path):
    places = {
        100 + index: SamplePlace(f"xml/{index}.xml", [10, 20, 30, 40], ("train", "val")[index % 2])
        for index in range(len(drawn.images))
    }
    plots = dict.fromkeys(PLOTS, (encode_png(), encode_png()))
    pictures = drawn.pictures(choose_images(analysis))
    page = render_evaluation(analysis, drawn.samples(), places, plots, pictures)
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def drawn(case):
    return case(["cat", "dog", "owl"], num_images=10, seed=5)


@pytest.fixture(scope="module")
def analysis(drawn):
    return drawn.analyse()


@pytest.fixture(scope="module")
def url(drawn, analysis, tmp_path_factory):
    return write_page(drawn, analysis, tmp_path_factory.mktemp("page") / "evaluation.html")


@pytest.fixture
def page(browser, url):
    """The page as it was when it was opened."""
    if browser.run("location.href") == url:
        browser.run("document.getElementById('enlarged').close()")
        browser.run("document.getElementById('reset').click()")
    else:
        browser.open(url)
    return browser


def numbers(page):
    names = ("right", "wrong", "lost", "precision", "recall", "f1")
    return [page.text(f"#number-{name}") for name in names]


def expect(curve, threshold):
    right, wrong = (int(one) for (one,) in curve._counts_at(threshold))
    point = curve.at(threshold[0])
    shares = [
        "n/a" if share is None else f"{share:.3f}"
        for share in (point.precision, point.recall, point.f1)
    ]
    return [str(right), str(wrong), str(curve.num_truths - right), *shares]


def shown(page):
    return [int(text.split("\n")[-1][4:-4].split(".")[0]) for text in names(page)]


def names(page):
    return page.run(
        "[...document.querySelectorAll('#images figure:not([hidden])')]"
        ".map((one) => one.dataset.name.split(' ')[1])"
    )


def test_the_threshold_judges_anew(page, drawn, analysis):
    thresholds = page.run("JSON.parse(document.getElementById('judged').textContent).thresholds")
    own = analysis.score_threshold
    assert page.text("#threshold-value") == f"{own:.4f}"
    assert numbers(page) == expect(analysis.overall, np.array([own]))
    for text in ("0.00", "0.50", "1.00"):
        page.choose(SLIDER, str(thresholds.index(text)))
        assert page.text("#threshold-value") == text
        assert (
            page.run("document.querySelector('#threshold').getAttribute('aria-valuetext')") == text
        )
        assert numbers(page) == expect(analysis.overall, np.array([float(text)]))
        errors = find_errors(analysis.matches, drawn.images, float(text))
        kinds = {
            kind: page.text(f"#kind-{kind}") for kind in {error.type.value for error in errors}
        }
        assert kinds == {
            kind: str(sum(error.type.value == kind for error in errors)) for kind in kinds
        }
        # What is drawn is what is counted.
        kept = page.run("document.querySelectorAll('g.judged:is(.right, .wrong):not(.off)').length")
        assert kept == int(numbers(page)[0]) + int(numbers(page)[1])
        lost = page.run("document.querySelectorAll('g.truth.missed').length")
        assert lost == int(numbers(page)[2])
    page.run("document.getElementById('reset').click()")
    assert page.text("#threshold-value") == f"{own:.4f}"


def test_the_slider_moves_by_keys(page, analysis):
    at = int(page.run("document.querySelector('#threshold').value"))
    page.focus(SLIDER)
    page.press("ArrowRight")
    assert page.run("document.querySelector('#threshold').value") == str(at + 1)
    page.press("Home")
    assert page.text("#threshold-value") == "0.00"


def test_a_class_has_its_own_numbers_and_pictures(page, drawn, analysis):
    name = "owl"
    class_id = analysis.label_map.id_of(name)
    page.choose("[data-choice=class]", str(class_id))
    own = analysis.score_threshold
    assert numbers(page) == expect(analysis.curves[name], np.array([own]))
    having = {
        index
        for index, image in enumerate(drawn.images)
        if any(item.name == name for item in image.objects)
        or any(one.name == name and one.score >= own for one in image.detections)
    }
    assert {int(one[4:-4]) for one in names(page)} == having
    assert f"of {len(drawn.images)} " in page.text("#fitting")


def test_kind_split_and_name_leave_what_fits(page, drawn, analysis):
    errors = find_errors(analysis.matches, drawn.images, analysis.score_threshold)
    matches = analysis.matches
    missing = {int(matches.truth_images[one.truth]) for one in errors if one.detection is None}
    page.choose("[data-choice=kind]", "missed")
    assert {int(one[4:-4]) for one in names(page)} == missing
    page.choose("[data-choice=split]", "val")
    assert {int(one[4:-4]) for one in names(page)} == {one for one in missing if one % 2}
    page.choose("[data-choice=kind]", "")
    assert len(names(page)) == 5
    found = int(numbers(page)[0]) + int(numbers(page)[2])
    assert found == sum(len(image.objects) for image in drawn.images[1::2])
    page.choose("[data-choice=search]", "XML/3")
    assert names(page) == ["xml/3.xml"]
    page.choose("[data-choice=search]", "nothing of this name")
    assert names(page) == []
    assert page.text("#fitting").startswith("0 pictures of 10")


def test_pictures_are_sorted(page, drawn):
    worst = names(page)
    page.choose("[data-choice=sort]", "name")
    assert names(page) == [f"xml/{index}.xml" for index in range(10)]
    page.choose("[data-choice=sort]", "errors")
    counts = page.run(
        "[...document.querySelectorAll('#images figure .outcome')].map((one) => one.innerText)"
    )
    assert len(counts) == 10
    page.choose("[data-choice=sort]", "")
    assert names(page) == worst


def test_a_table_is_sorted_by_its_heads(page, analysis):
    def column(number):
        rows = "document.querySelectorAll('#classes tbody tr')"
        return page.run(f"[...{rows}].map((row) => row.cells[{number}].innerText)")

    page.focus("#classes th:nth-of-type(3) button")
    page.press("Enter")
    values = [float(one) for one in column(3)]
    assert values == sorted(values, reverse=True)
    page.press("Enter")
    assert [float(one) for one in column(3)] == sorted(values)
    assert page.run("document.querySelectorAll('#classes [aria-sort]').length") == 1
    page.click("#classes th:first-of-type button")
    assert column(0) == ["cat", "dog", "owl"]
    # The sum stays where it is.
    assert page.text("#classes tfoot td") == "all"


def test_enter_enlarges_to_the_pixels_of_the_image(page):
    page.focus("#images figure .open")
    page.press("Enter")
    assert page.run("document.getElementById('enlarged').open")
    # 64 by 48 pixels, each as a square of whole pixels of the screen.
    size = page.run(
        "(() => { const box = document.querySelector('#enlarged-picture svg')"
        ".getBoundingClientRect(); return [box.width, box.height]; })()"
    )
    assert size == [64 * 8, 48 * 8]
    assert page.text("#enlarged-zoom") == "800 %"
    first = page.text("#enlarged-name")
    assert first.startswith("images/")
    listed = page.texts("#enlarged-boxes button")
    number = first.removeprefix("images/").removesuffix(".jpg")
    truths = [one for one in listed if one.startswith(("not found: ", "found: "))]
    assert sorted(one.split(", ")[-1] for one in truths) == [
        f"xml/{number}.xml:{line}" for line in (10, 20, 30, 40)
    ]
    # Labels stay inside the picture.
    outside = page.run(
        "(() => { const room = document.querySelector('#enlarged-picture svg')"
        ".getBoundingClientRect(); return [...document.querySelectorAll('#enlarged text.label')]"
        ".map((one) => one.getBoundingClientRect()).filter((box) => box.left < room.left - 1"
        " || box.right > room.right + 1 && box.width < room.width"
        " || box.top < room.top - 2 || box.bottom > room.bottom + 4).length; })()"
    )
    assert outside == 0
    page.press("0")
    assert page.text("#enlarged-zoom") == "100 %"
    page.press("+")
    assert page.text("#enlarged-zoom") == "150 %"
    page.press("n")
    second = page.text("#enlarged-name")
    assert second != first
    assert page.find_barriers() == []
    page.press("Escape")
    page.wait_for("!document.getElementById('enlarged').open")
    assert page.run("document.activeElement.ariaLabel") == f"Enlarge {second}"


def test_a_click_enlarges_what_fits_the_filter(page):
    page.choose("[data-choice=search]", "xml/7")
    page.click("#images figure:not([hidden]) .open")
    assert page.text("#enlarged-name") == "images/7.jpg"
    page.press("n")
    assert page.text("#enlarged-name") == "images/7.jpg"
    page.click("[data-action=close]")
    assert not page.run("document.getElementById('enlarged').open")


def test_focus_is_seen(page):
    page.focus("#reset")
    page.press("Tab")
    width = page.run("getComputedStyle(document.activeElement).outlineWidth")
    assert page.run("document.activeElement.className") == "open"
    assert width == "3px"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nobody_is_kept_out(page, width, scheme):
    page.resize(width, 900)
    page.emulate(scheme=scheme)
    page.run("dispatchEvent(new Event('resize'))")
    assert page.find_barriers() == []
    assert page.run("document.documentElement.scrollWidth") == width


def test_paper_has_every_column(page):
    assert page.print_pdf().startswith(b"%PDF")
    # The width of A4 between its margins.
    page.resize(703, 1000)
    page.emulate("print")
    cut = (
        "[...document.querySelectorAll('.scroll')].filter((one) =>"
        " [...one.querySelectorAll('th, td')].some((cell) => cell.offsetWidth < 8"
        " || cell.getBoundingClientRect().right > document.documentElement.clientWidth + 1)).length"
    )
    assert page.run(cut) == 0
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_no_other_script_runs(page):
    ran = page.run(
        "new Promise((resolve) => { const one = document.createElement('script');"
        "one.textContent = 'window.ran = true'; document.body.append(one);"
        "document.body.insertAdjacentHTML('beforeend',"
        ' \'<img src=x onerror="window.ran = true"><b onclick="window.ran = true">\');'
        "document.body.lastElementChild.click();"
        "setTimeout(() => resolve(window.ran ?? false), 50); })"
    )
    assert ran is False
    assert len(page.faults) >= 3
    assert all("Content Security Policy" in fault for fault in page.faults)
    page.open("about:blank")


def test_hostile_names_are_text_for_the_script_too(browser, case, hostile_names, tmp_path):
    drawn = case(hostile_names, num_images=6, objects=6, seed=2)
    browser.open(write_page(drawn, drawn.analyse(), tmp_path / "page.html"))
    browser.choose(SLIDER, "0")
    options = browser.run(
        "[...document.querySelectorAll('[data-choice=class] option')].map((one) => one.text)"
    )
    assert options[1:] == [
        " ".join(name.replace("\u202e", "\\u202e").split()) for name in hostile_names
    ]
    browser.focus("#images figure .open")
    browser.press("Enter")
    assert browser.run("document.querySelectorAll('#enlarged script, #enlarged img').length") == 0
    listed = browser.run(
        "[...document.querySelectorAll('#enlarged-boxes button')].map((one) => one.textContent)"
    )
    names = [name.replace("\u202e", "\\u202e") for name in hostile_names]
    truths = [one.partition("found: ")[2] for one in listed if "found: " in one]
    assert len(truths) == 6
    assert all(one.startswith(tuple(f"{name}, " for name in names)) for one in truths)
    assert browser.find_barriers() == []
