"""The page that shows what an audit found, readable for any number of images.

Galleries are capped and say so; totals are of everything. The page depends on the dataset alone, so
it is the same on every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detflow.data.judging.audit import Audit
from detflow.data.report.boxes import build_box_charts, build_sizes
from detflow.data.report.gallery import (
    MAX_LARGE_BYTES,
    Gallery,
    SampleCard,
    choose_samples,
)
from detflow.data.report.groups import (
    CARDS_PER_CODE,
    LINES_PER_CODE,
    FindingGroup,
    Teller,
    group_findings,
)
from detflow.data.report.measure import (
    SIDE_BINS,
    Findings,
    Measured,
    collect_findings,
    measure_audit,
)
from detflow.data.rules import Action
from detflow.pages.charts import Chart, build_sparkline, build_stack
from detflow.pages.colours import Rgb, class_colour
from detflow.pages.render import Section, render_page

_MAX_CLASS_ROWS = 60
_MAX_CLASS_CHOICES = 1_000
_MAX_CLASS_GALLERIES = 16
_MAX_SAMPLE_PICTURES = 48
_ACTION_TITLES = {
    Action.REFUSED: "Refused",
    Action.QUARANTINED: "Set aside",
    Action.REPAIRED: "Mended",
    Action.NOTED: "Noted",
}


def render_report(audit: Audit, content: Mapping[str, Any], ledger: str | None) -> str:
    """Returns the page.

    Args:
        audit: The audit; its dataset is read again for the pictures.
        content: What `describe_audit` says about it: the totals.
        ledger: Name of the file beside the page that has every finding; None where there is none.
    """
    found = collect_findings(audit, CARDS_PER_CODE + LINES_PER_CODE)
    measured = measure_audit(audit)
    gallery, teller = Gallery(audit), Teller(audit)
    by_action = {action: group_findings(gallery, teller, found, action) for action in Action}
    sections = {
        "totals": Section("Totals"),
        **_list_section(by_action, Action.REFUSED),
        **_list_section(by_action, Action.QUARANTINED),
        **_list_section(by_action, Action.REPAIRED),
        "classes": Section("Classes"),
        "boxes": Section("Boxes"),
        **_list_section(by_action, Action.NOTED),
        "samples": Section("Samples"),
    }
    return render_page(
        "report.html.j2",
        name=content["dataset"],
        sections=sections,
        story=_tell_story(content, by_action),
        sums=_build_sums(content, found),
        splits=_build_splits(content),
        classes=_build_classes(content, measured),
        charts=build_box_charts(measured),
        sizes=build_sizes(measured),
        samples=_build_samples(gallery, audit, measured, teller),
        choices=_build_choices(audit, content, by_action),
        findings={action.value: groups for action, groups in by_action.items()},
        ledger=ledger,
        max_megabytes=MAX_LARGE_BYTES // 1_000_000,
        cards_per_code=CARDS_PER_CODE,
        lines_per_code=LINES_PER_CODE,
    )


# --- Totals ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    fill: str
    text: str


@dataclass(frozen=True, slots=True)
class _Sum:
    """A total, and the parts that add up to it; those that are empty are not shown."""

    what: str
    total: int
    chart: Chart
    parts: Sequence[_Part]


@dataclass(frozen=True, slots=True)
class _SplitRow:
    name: str
    images: int
    objects: int
    share: float
    chart: Chart


@dataclass(frozen=True, slots=True)
class _Splits:
    rule: str
    val_from: str
    seed: int
    unions: Mapping[str, Sequence[str]]
    rows: Sequence[_SplitRow]
    images: int
    objects: int


def _count_used(content: Mapping[str, Any], what: str) -> int:
    return sum(split[what] for split in content["splits"].values())


def _tell_story(
    content: Mapping[str, Any], by_action: Mapping[Action, Sequence[FindingGroup]]
) -> dict[str, int]:
    """Returns the numbers of the two sentences that tell the whole story."""
    return {
        "images": content["annotations_usable"],
        "objects": _count_used(content, "objects"),
        "classes": len(content["classes"]),
        "refused": sum(group.count for group in by_action[Action.REFUSED]),
        "repairs": sum(group.count for group in by_action[Action.REPAIRED]),
        "set_aside": sum(content["quarantined"].values()),
    }


def _build_sums(content: Mapping[str, Any], found: Findings) -> list[_Sum]:
    # An image that is in two splits is used once.
    used, objects = content["annotations_usable"], _count_used(content, "objects")
    annotations, images = content["annotations_found"], content["images_found"]
    set_aside, unlabelled = sum(content["quarantined"].values()), content["images_unlabelled"]
    return [
        _build_sum(
            "Annotations",
            annotations,
            _Part(used, "used", "used"),
            _Part(set_aside, "quarantined", "set aside"),
            _Part(annotations - used - set_aside, "refused", "refused"),
        ),
        _build_sum(
            "Images",
            images,
            _Part(used, "used", "used"),
            _Part(images - used - unlabelled, "quarantined", "of annotations that are not used"),
            _Part(unlabelled, "noted", "without an annotation"),
        ),
        _build_sum(
            "Objects of used annotations",
            objects + found.left_out,
            _Part(objects, "used", "used"),
            _Part(found.left_out, "repaired", "left out"),
        ),
    ]


def _build_sum(what: str, total: int, *parts: _Part) -> _Sum:
    label = f"{total:,} = " + " + ".join(f"{part.number:,} {part.text}" for part in parts)
    chart = build_stack([(part.number, part.fill) for part in parts], label)
    return _Sum(what, total, chart, [part for part in parts if part.number or part.text == "used"])


def _build_splits(content: Mapping[str, Any]) -> _Splits:
    images, objects = _count_used(content, "images"), _count_used(content, "objects")
    rows = [
        _SplitRow(
            name,
            split["images"],
            split["objects"],
            split["images"] / max(1, images),
            build_stack([(split["images"], "accent")], str(split["images"]), images),
        )
        for name, split in content["splits"].items()
    ]
    rule = content["split_rule"]["by"]
    val_from = content["split_rule"].get("val_from", "")
    return _Splits(rule, val_from, content["seed"], content["unions"], rows, images, objects)


# --- Classes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ClassRow:
    """One class; `by_split` has its objects in each split."""

    name: str
    class_id: int
    objects: int
    by_split: Sequence[int]
    images: int
    chart: Chart
    sizes: Chart


@dataclass(frozen=True, slots=True)
class _Classes:
    """The most frequent classes, and the totals of all."""

    rows: Sequence[_ClassRow]
    num_classes: int
    splits: Mapping[str, int]
    objects: int


def _build_classes(content: Mapping[str, Any], measured: Measured) -> _Classes:
    splits, classes = content["splits"], content["classes"]
    by_split = {
        name: [split["objects_per_class"][name] for split in splits.values()] for name in classes
    }
    totals = {name: sum(numbers) for name, numbers in by_split.items()}
    most = max(totals.values(), default=0)
    ids = {name: class_id for class_id, name in enumerate(classes, start=1)}
    used = [i for i in range(SIDE_BINS) if measured.sides[i]]
    view = slice(used[0], used[-1] + 1) if used else slice(0, 1)
    rows = []
    for name in sorted(classes, key=lambda name: (-totals[name], ids[name]))[:_MAX_CLASS_ROWS]:
        colour = class_colour(ids[name])
        rows.append(
            _ClassRow(
                name,
                ids[name],
                totals[name],
                by_split[name],
                measured.class_images[name],
                build_stack([(totals[name], colour)], f"{totals[name]:,}", most),
                build_sparkline(measured.class_sides[name][view], colour, f"sizes of {name}"),
            )
        )
    split_totals = {name: split["objects"] for name, split in splits.items()}
    return _Classes(rows, len(classes), split_totals, sum(totals.values()))


# --- Samples --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _SampleGroup:
    name: str
    colour: Rgb
    images: int
    cards: Sequence[SampleCard]


@dataclass(frozen=True, slots=True)
class _Samples:
    """Some images of the classes that most images have."""

    per_class: int
    num_classes: int
    groups: Sequence[_SampleGroup]


def _build_samples(gallery: Gallery, audit: Audit, measured: Measured, teller: Teller) -> _Samples:
    names = [name for name in audit.label_map if measured.class_images[name]]
    shown = sorted(names, key=lambda name: -measured.class_images[name])[:_MAX_CLASS_GALLERIES]
    per_class = max(3, min(12, _MAX_SAMPLE_PICTURES // max(1, len(shown))))
    groups = [
        _SampleGroup(
            name,
            class_colour(audit.label_map.id_of(name)),
            measured.class_images[name],
            [
                gallery.show_sample(annotation, name, teller.split_of[annotation])
                for annotation in annotations
            ],
        )
        for name, annotations in choose_samples(audit, shown, per_class).items()
    ]
    return _Samples(per_class, len(names), groups)


def _list_section(
    by_action: Mapping[Action, Sequence[FindingGroup]], action: Action
) -> dict[str, Section]:
    """Returns the section of an action's findings by its anchor; nothing where there are none."""
    if not by_action[action]:
        return {}
    count = sum(group.count for group in by_action[action])
    return {action.value: Section(_ACTION_TITLES[action], count)}


# --- Filters --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choices:
    """What pictures and lines can be filtered by: (value, text) of each choice."""

    classes: Sequence[tuple[str, str]]
    kinds: Sequence[tuple[str, str]]
    splits: Sequence[tuple[str, str]]


def _build_choices(
    audit: Audit,
    content: Mapping[str, Any],
    by_action: Mapping[Action, Sequence[FindingGroup]],
) -> _Choices:
    label_map = audit.label_map
    return _Choices(
        [(str(label_map.id_of(name)), name) for name in label_map][:_MAX_CLASS_CHOICES],
        [
            (group.code, f"{_ACTION_TITLES[action].lower()}: {group.code} ({group.count:,})")
            for action in _ACTION_TITLES
            for group in by_action[action]
        ],
        [(split, split) for split in content["splits"]],
    )
