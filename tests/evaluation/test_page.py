import base64
import re

import pytest

from detflow.evaluation.cards import choose_images
from detflow.evaluation.page import render_evaluation
from detflow.evaluation.plots import PLOTS

PLOT_FILES = dict.fromkeys(PLOTS, (b"light", b"dark"))


@pytest.fixture(scope="module")
def page_of(parse_page):
    def page_of(drawn, filename="images/{}.jpg"):
        analysis = drawn.analyse()
        pictures = drawn.pictures(choose_images(analysis))
        samples = drawn.samples(filename)
        return parse_page(render_evaluation(analysis, samples, {}, PLOT_FILES, pictures))

    return page_of


@pytest.fixture(scope="module")
def drawn(case):
    return case(["cat", "dog"])


@pytest.fixture(scope="module")
def page(page_of, drawn):
    return page_of(drawn)


def test_the_page_is_whole_by_itself(page):
    page.require_inert()
    page.require_links("numbers", "classes", "curves", "confusion", "errors", "images")


def test_the_page_is_the_same_on_every_run(page, page_of, drawn):
    assert page_of(drawn).html == page.html


def test_the_lead_tells_the_story(page, drawn):
    analysis = drawn.analyse()
    point = analysis.overall.at(analysis.score_threshold)
    cost = max(cost.ap50 for cost in analysis.costs.values())
    low, high = analysis.intervals["AP"]
    assert page.text_of("p[@class='lead']") == (
        f"AP {analysis.metrics['AP']:.3f} ({low:.2f}–{high:.2f} at 90 %), AP50 "
        f"{analysis.metrics['AP50']:.3f} on 6 images with 24 objects of 2 classes. "
        f"From a score of {analysis.score_threshold:.2f} on, "
        f"{100 * point.recall:.1f} % of the objects are found, and {100 * point.precision:.1f} % "
        f"of the detections are right. Most is lost to missed objects: {cost:.3f} of AP50."
    )


def test_each_measure_has_a_tile(page, drawn):
    analysis = drawn.analyse()
    tiles = [tile.xpath("./span[1]/text()|./b/text()") for tile in page.find("div[@class='tile']")]
    assert dict(tiles) == {
        **{
            measure.title: "n/a" if measure.value is None else f"{measure.value:.3f}"
            for measure in analysis.measures
        },
        "Best F1": f"{analysis.overall.best.f1:.3f}",
    }


def test_each_class_has_a_row(page, drawn):
    analysis = drawn.analyse()
    head, *rows, total = page.rows("section[@id='classes']")
    columns = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "VOC10 AP": "VOC10_AP"}
    for name, row in zip(["cat", "dog"], rows, strict=True):
        cells = dict(zip(head, row, strict=True))
        assert cells["class"] == name
        assert cells["objects"] == str(analysis.counts[name].objects)
        for column, key in columns.items():
            assert cells[column] == f"{analysis.class_metrics[name][key]:.3f}"
        low, high = analysis.intervals[f"AP/{name}"]
        assert cells["range"] == f"{low:.2f}–{high:.2f}"
        assert cells["best score"] == f"{analysis.curves[name].best.threshold:.2f}"
    assert total[:4] == ["all", "", "24", f"{analysis.metrics['AP']:.3f}"]


def test_each_kind_of_error_has_a_row_the_costliest_first(page, drawn):
    analysis = drawn.analyse()
    _, *rows = page.rows("section[@id='errors']")
    names = [cell.text for cell in page.find("section[@id='errors']//tbody//td[1]")]
    costs = {kind.value: cost for kind, cost in analysis.costs.items()}
    assert names == sorted(costs, key=lambda name: -costs[name].ap50)
    for name, row in zip(names, rows, strict=True):
        assert row[2] == f"{costs[name].ap50:.3f}"
        assert row[4] == f"{costs[name].count:,}"
    assert sum(int(row[3]) for row in rows) == len(analysis.errors)


def test_hostile_text_stays_text(case, page_of, hostile_names):
    page = page_of(
        case(hostile_names), filename="\udcff<img src=x onerror=alert(1)>{{{{7*7}}}}{}.jpg"
    )
    page.require_inert()
    assert page.html.encode()
    assert "\u202e" not in page.html
    assert "\\udcff<img src=x onerror=alert(1)>{{7*7}}0.jpg" in page.text
    shown = [name.replace("\u202e", "\\u202e") for name in hostile_names]
    rows = page.rows("section[@id='classes']")
    assert [row[0] for row in rows[1:-1]] == [" ".join(name.split()) for name in shown]


def test_every_plot_is_there_for_bright_and_dark_screens(page):
    light, dark = (
        f"data:image/png;base64,{base64.b64encode(kind).decode()}" for kind in (b"light", b"dark")
    )
    plots = page.find("figure//picture")
    assert [plot.xpath("./source/@srcset") for plot in plots] == [[dark]] * len(PLOTS)
    assert [plot.xpath(".//img/@src") for plot in plots] == [[light]] * len(PLOTS)


@pytest.mark.parametrize(("num_classes", "num_images"), [(1, 1), (30, 60)])
def test_pictures_are_capped_and_the_page_says_so(case, num_classes, num_images, page_of):
    drawn = case([f"class {number}" for number in range(num_classes)], num_images, 3)
    page = page_of(drawn)
    shown = min(num_images, 48)
    assert len(page.find("section[@id='images']//figure")) == shown
    assert f"Pictures of {shown} of {num_images} image" in page.text
    assert "at most 48 pictures of 400 KB each" in page.text


def test_without_objects_there_is_no_minus_one(case, page_of):
    page = page_of(case(["cat", "dog"], objects=0))
    page.require_links("numbers", "classes", "curves", "confusion", "errors", "images")
    assert page.text_of("p[@class='lead']") == (
        "AP n/a, AP50 n/a on 6 images with 0 objects of 2 classes."
    )
    numbers = page.texts("td") + page.texts("div[@class='tile']/b")
    assert "n/a" in numbers
    assert not [number for number in numbers if re.search(r"^-|nan", number)]
