"""Every colour of detflow: of classes, pages, plots and the server's page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypeAlias

Rgb: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

# Okabe and Ito (2008), "Color Universal Design", without its black; then what Paul Tol's "muted"
# scheme (technical note SRON/EPS/TN/09-002) adds to it. Colours repeat from the twelfth class on,
# because no eye keeps more of them apart.
_CLASS_COLOURS: tuple[Rgb, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (136, 34, 85),
    (68, 170, 153),
    (51, 34, 136),
    (153, 153, 51),
)

# Sky blue, a bright vermilion and yellow, after Okabe and Ito: the three differ in hue or in
# lightness for every kind of colour blindness, and on a dark ground all can be read.
_RIGHT, _WRONG, _MISSED = "#56b4e9", "#ff6e1a", "#f0e442"


def class_colour(class_id: int) -> Rgb:
    """Returns the colour of a class, by its 1-based id, in every picture, table and plot."""
    return _CLASS_COLOURS[(class_id - 1) % len(_CLASS_COLOURS)]


def to_hex(colour: Rgb) -> str:
    """Returns a colour as SVG, CSS and matplotlib read it, say "#e69f00"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a page on a bright or a dark screen, as CSS writes them.

    Attributes:
        ground: Behind everything.
        card: Behind panels, pictures and plots.
        ink: Text.
        soft: Secondary text.
        line: Borders and grids.
        accent: Bars, links and whatever is to be seen first.
        wash: Behind a chosen or hovered item.
        void: Behind the empty part of a bar or a picture.
        used: What is in the records.
        repaired: What was mended.
        quarantined: What was set aside.
        refused: What stops the work, and errors.
        noted: What is only worth knowing.
        before: Outline of a box as it was written.
        after: Outline of a box as it was mended.
        right: Outline of a right detection; over photographs, so that both themes have the same.
        wrong: Outline of a false positive.
        missed: Outline of an object that was not found.
        low: The lower end of a colour scale.
        high: The upper end of a colour scale.
    """

    ground: str
    card: str
    ink: str
    soft: str
    line: str
    accent: str
    wash: str
    void: str
    used: str
    repaired: str
    quarantined: str
    refused: str
    noted: str
    before: str
    after: str
    right: str
    wrong: str
    missed: str
    low: str
    high: str


LIGHT = Theme(
    ground="#f7f7f5",
    card="#ffffff",
    ink="#1c2126",
    soft="#5d666f",
    line="#e1e3e0",
    accent="#0f6f74",
    wash="#e8f1f0",
    void="#ecedea",
    used="#23776c",
    repaired="#2b6cb0",
    quarantined="#8a5a12",
    refused="#c0392b",
    noted="#646d75",
    before="#d55e00",
    after="#009e73",
    right=_RIGHT,
    wrong=_WRONG,
    missed=_MISSED,
    low="#f4f7f7",
    high="#0b4f53",
)
DARK = Theme(
    ground="#14181b",
    card="#1d2226",
    ink="#e8eaeb",
    soft="#9aa4ac",
    line="#30373c",
    accent="#5cc3bd",
    wash="#1b2f30",
    void="#262c31",
    used="#43a798",
    repaired="#63a4e0",
    quarantined="#dba54a",
    refused="#ea7566",
    noted="#8a959e",
    before="#ff8a3d",
    after="#2fd0a0",
    right=_RIGHT,
    wrong=_WRONG,
    missed=_MISSED,
    low="#252c31",
    high="#7fe0da",
)


def format_css() -> str:
    """Returns both themes as CSS variables (`--ink`); the screen's preference chooses one."""
    return (
        f":root {{\n  color-scheme: light dark;\n{_to_variables(LIGHT, '  ')}}}\n"
        "@media (prefers-color-scheme: dark) {\n"
        f"  :root {{\n{_to_variables(DARK, '    ')}  }}\n"
        "}\n"
    )


def _to_variables(theme: Theme, indent: str) -> str:
    return "".join(f"{indent}--{name}: {colour};\n" for name, colour in asdict(theme).items())
