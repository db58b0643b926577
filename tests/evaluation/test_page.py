import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from detflow.evaluation.page import chosen_images, render_evaluation
from detflow.evaluation.plots import PLOTS

PLOT_FILES = dict.fromkeys(PLOTS, (b"light", b"dark"))


class Page(HTMLParser):
    """What a browser would make of the page: elements with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.html, self.text, self.elements = html, "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def page_of(drawn, filename="images/{}.jpg", **options):
    analysis = drawn.analyse(**options)
    names = [sample.filename for sample in drawn.samples(filename)]
    return Page(
        render_evaluation(analysis, names, PLOT_FILES, drawn.pictures(chosen_images(analysis)))
    )


def test_the_page_fetches_and_runs_nothing(case):
    found = page_of(case(["cat", "dog"]))
    assert "http" not in found.html.replace("http-equiv", "")
    assert not found.named("script")
    assert not found.named("link")
    for _, attrs in found.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        for name in ("src", "srcset"):
            assert attrs.get(name, "data:image/").startswith("data:image/")
        assert attrs.get("href", "#").startswith("#")
    [policy] = [
        attrs["content"]
        for attrs in found.named("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    style = re.search(r"<style>(.*?)</style>", found.html, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{digest}'" in policy


def test_hostile_text_stays_text(case, hostile_names):
    found = page_of(case(hostile_names), filename="\udcff<img src=x onerror=alert(1)>{}.jpg")
    assert not found.named("script")
    assert all(attrs["src"].startswith("data:") for attrs in found.named("img"))
    assert "<script>alert(1)</script>" in found.text
    assert "\\udcff<img src=x onerror=alert(1)>" in found.text
    assert "\u202e" not in found.html
    assert found.html.encode()


def test_every_plot_is_there_for_bright_and_dark_screens(case):
    found = page_of(case(["cat", "dog"]))
    light, dark = (
        f"data:image/png;base64,{base64.b64encode(kind).decode()}" for kind in (b"light", b"dark")
    )
    assert [attrs["srcset"] for attrs in found.named("source")] == [dark] * len(PLOTS)
    assert [attrs["src"] for attrs in found.named("img")].count(light) == len(PLOTS)


def test_links_lead_to_sections(case):
    found = page_of(case(["cat", "dog"]))
    anchors = {attrs["id"] for attrs in found.named("section")}
    assert {attrs["href"] for attrs in found.named("a")} == {f"#{anchor}" for anchor in anchors}
    assert {"numbers", "classes", "curves", "confusion", "errors", "worst", "by-class"} == anchors


@pytest.mark.parametrize(("num_classes", "num_images"), [(1, 1), (1, 40), (80, 40)])
def test_galleries_are_capped(case, num_classes, num_images):
    drawn = case([f"class {number}" for number in range(num_classes)], num_images, 6)
    found = page_of(drawn)
    pictures = [attrs for attrs in found.named("img") if attrs.get("class") == "picture"]
    assert len(pictures) <= 12 + 36
    assert len(pictures) >= min(num_images, 12)
    assert chosen_images(drawn.analyse()) <= set(range(num_images))


def test_without_objects_there_is_no_minus_one(case):
    found = page_of(case(["cat", "dog"], objects=0))
    assert "AP n/a, AP50 n/a on 6 images with 0 objects of 2 classes." in found.text
    assert "-1" not in re.sub(
        r"<style>.*?</style>|<head>.*?</head>", "", found.html, flags=re.DOTALL
    ).replace("-1.0", "")
    assert "nan" not in found.text
    assert not [attrs for attrs in found.named("section") if attrs["id"] in ("worst", "by-class")]


def test_the_lead_tells_the_story(case):
    drawn = case(["cat", "dog"])
    analysis = drawn.analyse()
    text = page_of(drawn).text
    point = analysis.overall.at(analysis.score_threshold)
    assert f"AP {analysis.metrics['AP']:.3f}, AP50 {analysis.metrics['AP50']:.3f}" in text
    assert f"{100 * point.recall:.1f} % of the objects are found" in text
    costs = {kind: cost.ap50 for kind, cost in analysis.costs.items()}
    assert f": {max(costs.values()):.3f} of AP50" in text


def test_the_page_is_the_same_on_every_run(case):
    assert page_of(case(["cat", "dog"])).html == page_of(case(["cat", "dog"])).html
