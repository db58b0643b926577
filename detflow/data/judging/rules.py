"""What an audit can find: every code with its action, its expectation and its remedy, stated once.

`docs/repairs.md` explains the rules for readers; a test holds its list and this one together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

__all__ = ["RULES", "Action", "Corners", "Finding", "Rule"]

# VOC pixel corners xmin, ymin, xmax, ymax.
Corners = tuple[float, float, float, float]


class Action(str, Enum):
    """What is done about a finding."""

    REPAIRED = "repaired"
    """Mended by a stated rule; the sample is written."""

    QUARANTINED = "quarantined"
    """The annotation and its image are set aside; the run goes on."""

    REFUSED = "refused"
    """Nothing is written at all until a person has looked."""

    NOTED = "noted"
    """Said and counted; nothing is changed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding.

    Attributes:
        action: What is done about it.
        meaning: What is wrong, as a clause: "the corners are in the wrong order".
        remedy: What was done, or what the user can do.
    """

    action: Action
    meaning: str
    remedy: str


_REPAIRED, _QUARANTINED, _REFUSED, _NOTED = (
    Action.REPAIRED,
    Action.QUARANTINED,
    Action.REFUSED,
    Action.NOTED,
)

RULES: dict[str, Rule] = {
    # XML
    "xml_doctype": Rule(
        _REFUSED, "a DOCTYPE can declare entities and name files", "remove the DOCTYPE or the file"
    ),
    "xml_malformed": Rule(_QUARANTINED, "the file is not well-formed XML", "correct the XML"),
    "xml_too_large": Rule(
        _QUARANTINED,
        "the file is larger than an annotation can be",
        "look what it is, or remove it",
    ),
    "xml_not_voc": Rule(
        _NOTED,
        "the root element is not <annotation>, so this is no VOC annotation",
        "left out of every count",
    ),
    "field_has_children": Rule(
        _QUARANTINED, "an element that holds a value has child elements", "correct the XML"
    ),
    "field_twice": Rule(
        _QUARANTINED, "a field stands twice, and nothing says which one counts", "remove one"
    ),
    "object_nested": Rule(
        _QUARANTINED,
        "an <object> is not a direct child of <annotation>",
        "move it up to <annotation>",
    ),
    "too_many_objects": Rule(
        _QUARANTINED, "the file has more objects than detflow reads", "split the image into tiles"
    ),
    "name_missing": Rule(
        _QUARANTINED, "an object has no class name", "name it or remove the object"
    ),
    "name_whitespace": Rule(
        _REPAIRED, "a class name has needless white space", "white space was collapsed"
    ),
    "flag_unreadable": Rule(_REPAIRED, "a flag is neither 0 nor 1", "read as 0"),
    # Boxes
    "box_missing": Rule(
        _QUARANTINED, "an object has no complete <bndbox>", "draw the box or remove the object"
    ),
    "box_not_a_number": Rule(
        _QUARANTINED, "a box corner is not a finite decimal number", "correct the number"
    ),
    "box_inverted": Rule(
        _REPAIRED, "a minimum is greater than its maximum", "the two were exchanged"
    ),
    "box_zero_area": Rule(_REPAIRED, "the box has no area", "the object was left out"),
    "box_clipped": Rule(
        _REPAIRED, "the box reaches out of the image", "it was cut at the image's edge"
    ),
    "box_outside": Rule(
        _REPAIRED, "the box lies wholly outside of the image", "the object was left out"
    ),
    "box_tiny": Rule(_NOTED, "the box is less than 2 pixels high or wide", "kept"),
    "object_duplicate": Rule(
        _REPAIRED, "the same class and box stand twice in one image", "one of them was left out"
    ),
    # Pairing
    "path_unsafe": Rule(_REFUSED, "<filename> leaves the dataset", "write the image's plain name"),
    "link_outside": Rule(
        _REFUSED,
        "a symbolic link or a key leads out of the dataset",
        "copy the file into the dataset",
    ),
    "paired_by_case": Rule(
        _REPAIRED,
        "<filename> differs from the image's name in case",
        "paired with the only such image",
    ),
    "paired_by_extension": Rule(
        _REPAIRED, "<filename> has another extension, or none", "paired with the only such image"
    ),
    "paired_by_path": Rule(
        _REPAIRED,
        "no image has the <filename>, one has the name at the end of <path>",
        "paired with it",
    ),
    "paired_by_stem": Rule(
        _REPAIRED,
        "no image has the <filename>, one has the annotation's own name",
        "paired with it",
    ),
    "image_missing": Rule(
        _QUARANTINED, "no image belongs to the annotation", "add the image or remove the annotation"
    ),
    "image_ambiguous": Rule(
        _QUARANTINED, "several images fit the annotation", "write the right one into <filename>"
    ),
    "image_claimed_twice": Rule(
        _QUARANTINED,
        "another annotation claims the same image",
        "remove one, or correct its <filename>",
    ),
    "key_twice": Rule(
        _QUARANTINED,
        "two annotations have the same path but for the extension's case",
        "remove one",
    ),
    "image_unlabelled": Rule(
        _NOTED,
        "no annotation belongs to the image",
        "left out; an XML without objects makes it a negative",
    ),
    "no_objects": Rule(_NOTED, "the annotation has no objects", "kept as a negative"),
    # Images
    "image_undecodable": Rule(
        _QUARANTINED, "the image cannot be decoded completely", "replace the image"
    ),
    "image_unsupported": Rule(
        _QUARANTINED, "the image's format is not supported", "convert it to JPEG or PNG"
    ),
    "image_too_large": Rule(
        _REFUSED, "the image is larger than allowed", "shrink it, or raise --max-pixels"
    ),
    "image_transcoded": Rule(
        _REPAIRED, "not every consumer decodes this format alike", "transcoded to JPEG"
    ),
    "extension_wrong": Rule(
        _NOTED, "the extension does not fit the content", "the content decides"
    ),
    "exif_applied": Rule(
        _REPAIRED, "the annotation's size fits the image as EXIF turns it", "the pixels were turned"
    ),
    "exif_removed": Rule(
        _REPAIRED,
        "EXIF asks for a turn that <size> does not confirm",
        "the pixels stay, EXIF was removed",
    ),
    "size_missing": Rule(
        _REPAIRED, "the annotation has no readable <size>", "taken from the pixels"
    ),
    "size_zero": Rule(_REPAIRED, "the annotation's <size> has a zero", "taken from the pixels"),
    "size_swapped": Rule(
        _REPAIRED, "the annotation's <size> has width and height exchanged", "taken from the pixels"
    ),
    "size_wrong": Rule(
        _REPAIRED, "the annotation's <size> differs from the image", "taken from the pixels"
    ),
    "size_conflict": Rule(
        _QUARANTINED,
        "the boxes fit the annotation's <size> but not the image, so they were drawn on another rendition",
        "restore the image that was annotated",
    ),
    # Classes and splits
    "class_unknown": Rule(
        _REFUSED,
        "the class is not in the list of classes",
        "correct the name, or add it to --classes",
    ),
    "split_unassigned": Rule(
        _QUARANTINED,
        "the declared splits leave the annotation out",
        "list it, or use --split-by seed",
    ),
    "split_entry_missing": Rule(_NOTED, "a split list names what is not there", "passed over"),
    "split_entry_twice": Rule(_NOTED, "a split list names the same image twice", "written once"),
    "split_near_leak": Rule(
        _NOTED, "nearly the same image is in another split", "look at both; evaluation may flatter"
    ),
    "class_near_miss": Rule(
        _NOTED,
        "the class is rare and its name resembles another one",
        "if it is a typing error, correct it",
    ),
    "split_empty": Rule(_NOTED, "a split has no image", "add images, or choose other fractions"),
    "class_absent": Rule(
        _NOTED, "a split has no object of a class", "evaluation there says nothing of it"
    ),
    "image_duplicate": Rule(
        _NOTED, "the image has the same bytes as another", "both are kept, in one split"
    ),
    "image_near_duplicate": Rule(
        _NOTED,
        "the image is nearly the same as another",
        "both are kept; a seeded split keeps them together",
    ),
    "split_leak": Rule(
        _REFUSED, "the same image is in two splits", "remove it from one, or pass --allow-leaks"
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        code: A key of `RULES`.
        path: The file inside the dataset, with forward slashes.
        line: In that file, from 1.
        object_index: Which object of the annotation, from 1.
        value: What is there.
        expected: What should be.
        image: The image that it is about, inside the dataset, so that a report can show it.
        before: The box as written, VOC pixel corners.
        after: The box as mended; None where the object was left out.
        related: Other files that it is about: candidates, duplicates.
    """

    code: str
    path: str
    line: int | None = None
    object_index: int | None = None
    value: str = ""
    expected: str = ""
    image: str | None = None
    before: Corners | None = None
    after: Corners | None = None
    related: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.code not in RULES:
            raise ValueError(f"no such finding: {self.code}")

    @property
    def rule(self) -> Rule:
        """The rule that it falls under."""
        return RULES[self.code]

    @property
    def action(self) -> Action:
        """What is done about it."""
        return RULES[self.code].action

    def __str__(self) -> str:
        """One line: place, object, value, meaning, expectation, remedy."""
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        subject = "" if self.object_index is None else f"object {self.object_index}: "
        value = f" ({self.value})" if self.value else ""
        expected = f", expected {self.expected}" if self.expected else ""
        related = f" [{', '.join(self.related)}]" if self.related else ""
        text = (
            f"{place}: {subject}{self.rule.meaning}{value}{expected}{related}; {self.rule.remedy}"
        )
        return text.replace("\r", "\\r").replace("\n", "\\n")

    def to_json(self) -> str:
        """Returns a ledger line: an object with the attributes that are set, the action first."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        present = {name: value for name, value in fields.items() if value not in (None, "", ())}
        return json.dumps({"action": self.action.value, **present, "remedy": self.rule.remedy})

    @classmethod
    def from_json(cls, line: str) -> Finding:
        """Reads `to_json`'s line."""
        fields = json.loads(line)
        for name in ("before", "after", "related"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return cls(**{name: fields[name] for name in cls.__slots__ if name in fields})
