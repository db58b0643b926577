"""docs/architecture.md and its drawing say what is so."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def layers():
    """The layers of the package as the linter holds them, from the top."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    [rows] = [one["layers"] for one in contracts if one.get("containers") == ["detflow"]]
    return [row.split(" | ") for row in rows]


def test_the_page_describes_every_room_in_the_order_of_the_layers(layers):
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    described = []
    for layer in layers:
        described.append(sorted(rooms[: len(layer)]))
        del rooms[: len(layer)]
    assert described == [sorted(layer) for layer in layers]
    assert rooms == []


def test_the_drawing_has_the_layers_and_colours_what_imports_tensorflow(layers):
    drawing = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    found = re.findall(
        r'<rect class="(light|heavy)" x="[\d.]+" y="(\d+)".*\n<text .*?>(\w+)</text>', drawing
    )
    rows = {}
    for _, y, room in found:
        rows.setdefault(int(y), []).append(room)
    drawn = [sorted(rooms) for _, rooms in sorted(rows.items())]
    assert drawn == [sorted(layer) for layer in layers]
    heavy = {room for colour, _, room in found if colour == "heavy"}
    assert heavy == {
        path.relative_to(ROOT / "detflow").parts[0].removesuffix(".py")
        for path in (ROOT / "detflow").rglob("*.py")
        if re.search(r"^ *import tensorflow", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
