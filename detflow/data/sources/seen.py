"""What lies in a place where no annotation was found: so that the user learns what to do.

Files are known by their names and their first bytes only; nothing of them is believed but for the
words of an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from detflow.data.images.header import IMAGE_SUFFIXES, find_format
from detflow.data.sources.detect import DIALECTS
from detflow.data.sources.source import AnnotationSource
from detflow.errors import DataError
from detflow.storage.interface import Folder
from detflow.storage.location import Location
from detflow.text import count_noun

_HEAD_BYTES = 1 << 16
# Files of one folder and extension are much alike: more of them are taken for what the last was.
_MAX_HEADS = 50
_MAX_SHOWN = 4
_NAME_FOLDER = "name the folder that holds images and annotations"
_EXPORT = "export the annotations as Pascal VOC"
_VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"),
        *(".mts", ".m2ts", ".flv", ".wmv", ".ogv"),
    }
)


class _Kind(NamedTuple):
    """What a file seems to be.

    Attributes:
        one: The noun for one file.
        many: The noun for several.
        remedy: What its owner can do.
    """

    one: str
    many: str
    remedy: str


def _tool(kind: str, remedy: str = _EXPORT) -> _Kind:
    return _Kind(f"file that looks like {kind}", f"files that look like {kind}", remedy)


# What says more about the user's intention comes first.
_KINDS: Mapping[str, _Kind] = {
    "cvat": _Kind(
        "XML file with the root <annotations> (CVAT for images)",
        "XML files with the root <annotations> (CVAT for images)",
        _NAME_FOLDER,
    ),
    "xml": _Kind(
        "XML file that is no VOC annotation", "XML files that are no VOC annotations", _EXPORT
    ),
    "labelme": _tool("LabelMe's JSON", "convert them with labelme2voc"),
    "via": _tool("VGG Image Annotator's JSON"),
    "label_studio": _tool("Label Studio's JSON", "export the project as Pascal VOC XML"),
    "createml": _tool("CreateML's JSON"),
    "supervisely": _tool("Supervisely's JSON"),
    "vott": _tool("VoTT's JSON", "export the project from VoTT as Pascal VOC"),
    "datumaro": _tool("Datumaro's JSON", "convert them with `datum convert -f voc`"),
    "bdd100k": _tool("BDD100K's JSON"),
    "labelbox": _tool("Labelbox' JSON"),
    "coco": _tool("COCO's JSON"),
    "yolo": _tool("YOLO labels"),
    "kitti": _tool("KITTI labels"),
    "dota": _tool("DOTA labels"),
    "csv": _tool("a CSV table of boxes", _NAME_FOLDER),
    "parquet": _Kind("Parquet file", "Parquet files", _EXPORT),
    "archive": _Kind("archive", "archives", "unpack it and name the folder"),
    "records": _Kind(
        "TFRecord file",
        "TFRecord files",
        "make-records reads them with --dialect tfrecord",
    ),
    "video": _Kind(
        "video", "videos", "extract frames and label them; detflow predict takes videos as they are"
    ),
    "image": _Kind(
        "image",
        "images",
        "label them with a tool that writes Pascal VOC, COCO or YOLO, or name the folder that "
        "holds the annotations as well",
    ),
    "other": _Kind("other file", "other files", _NAME_FOLDER),
}


def describe_unread(folder: Folder, dialect: AnnotationSource | None) -> tuple[str, str]:
    """Returns why there is nothing to read in a folder, and what the user can do.

    Args:
        folder: A folder in which no annotation was found.
        dialect: The dialect that was asked for; None where all were looked for.
    """
    first_name, *names = [one.name for one in (DIALECTS.values() if dialect is None else [dialect])]
    cause = f"no {first_name} annotation was found"
    if names:
        cause += f", nor one of {', '.join(names[:-1])} or {names[-1]}"
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    roots: Counter[str] = Counter()
    alike: dict[tuple[str, str], list[str]] = {}
    for path in sorted(entry.path for entry in folder.walk(_is_hidden) if entry.outside is None):
        kind, root = _find_kind(folder, path, alike)
        counts[kind] += 1
        first.setdefault(kind, path)
        if root:
            roots[root] += 1
    if not counts:
        return f"{cause}: the folder is empty", _NAME_FOLDER
    kinds = [kind for kind in _KINDS if counts[kind]]
    seen = [_describe_kind(kind, counts[kind], first[kind], roots) for kind in kinds[:_MAX_SHOWN]]
    rest = sum(counts[kind] for kind in kinds[_MAX_SHOWN:])
    if rest:
        seen.append(count_noun(rest, "other file"))
    listed = seen[0] if len(seen) == 1 else f"{', '.join(seen[:-1])} and {seen[-1]}"
    if kinds[0] not in DIALECTS:
        remedy = _KINDS[kinds[0]].remedy
    elif dialect is not None and dialect.name != DIALECTS[kinds[0]].name:
        remedy = f"pass --dialect {kinds[0]}"
    else:
        remedy = _NAME_FOLDER
    return f"{cause}, only {listed}", remedy


def require_folder(place: Location) -> None:
    """Refuses a file where a dataset's folder is needed.

    Raises:
        DataError: It is a file; the error says of which kind.
    """
    if not isinstance(place, Path) or not place.is_file():
        return
    with open(place, "rb") as file:
        head = file.read(_HEAD_BYTES)
    archive = _find_archive(place.name, head)
    if archive is not None:
        cause, remedy = f"this is {archive}, not a folder", "unpack it and name the folder"
    else:
        kind, _ = _sniff(place.name, head)
        what = "file" if kind == "other" else _KINDS[kind].one
        cause, remedy = f"expected a folder, this is one {what}", _NAME_FOLDER
    raise DataError(cause, path=place, remedy=remedy)


def _describe_kind(kind: str, count: int, example: str, roots: Counter[str]) -> str:
    noun = count_noun(count, _KINDS[kind].one, _KINDS[kind].many)
    named = ", ".join(f"<{root}>" for root, _ in roots.most_common(3))
    roots_found = f", with the root {named}" if kind == "xml" and named else ""
    return f"{noun} ({example}{', …' if count > 1 else ''}{roots_found})"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _find_kind(
    folder: Folder, path: str, alike: dict[tuple[str, str], list[str]]
) -> tuple[str, str]:
    """Returns what a file seems to be, and the root element of an XML file.

    Args:
        folder: The folder that holds it.
        path: Its path inside.
        alike: The kinds of files that were looked into, by their folder and extension.
    """
    parent, _, name = path.rpartition("/")
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image", ""
    if suffix in _VIDEO_SUFFIXES:
        return "video", ""
    known = alike.setdefault((parent, suffix), [])
    if len(known) >= _MAX_HEADS:
        return known[-1], ""
    head = folder.read(path, _HEAD_BYTES)
    kind, root = ("archive", "") if _find_archive(name, head) else _sniff(name, head)
    known.append(kind)
    return kind, root


# --- Archives -------------------------------------------------------------------------------------

_MAGICS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
)
_COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


def _find_archive(name: str, head: bytes) -> str | None:
    for magic, what in _MAGICS:
        if head.startswith(magic):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive"
    for magic, what in _COMPRESSED:
        if head.startswith(magic):
            is_tar = re.search(r"\.(tar\.\w+|tgz|tbz2?|txz|tzst)$", name, re.IGNORECASE)
            return f"a tar archive packed by {what}" if is_tar else f"a file packed by {what}"
    return None


# --- Files that tools write -----------------------------------------------------------------------


def _sniff(name: str, head: bytes) -> tuple[str, str]:
    """Returns what a file seems to be by its name and first bytes, and the root of an XML file."""
    suffix = Path(name).suffix.lower()
    if re.search(r"\.(tfrecords?|records?|tfrec)(-\d{5}-of-\d{5})?$", name, re.IGNORECASE):
        return "records", ""
    if find_format(head[:32]) is not None:
        return "image", ""
    if suffix in _VIDEO_SUFFIXES:
        return "video", ""
    if head.startswith(b"PAR1"):
        return "parquet", ""
    text = _decode(head)
    root = _find_root(text)
    if suffix == ".xml" or root:
        return ("cvat" if root == "annotations" else "xml"), root
    sniffers: dict[str, Callable[[str], str | None]] = {
        ".json": _sniff_json,
        ".ndjson": _sniff_json,
        ".txt": _sniff_lines,
        ".csv": _sniff_table,
        ".yaml": _sniff_yaml,
        ".yml": _sniff_yaml,
    }
    return (suffix in sniffers and sniffers[suffix](text)) or "other", ""


def _decode(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "replace")
    return head.decode("utf-8-sig", "replace")


_PROLOGUE = re.compile(r"<\?.*?\?>\s*|<!--.*?-->\s*", re.DOTALL)
_ROOT = re.compile(r"<([A-Za-z_][\w.:-]{0,99})[\s/>]")


def _find_root(text: str) -> str:
    """Returns the root element's name; nothing where the text does not begin like XML."""
    place = len(text) - len(text.lstrip())
    while match := _PROLOGUE.match(text, place):
        place = match.end()
    found = _ROOT.match(text, place)
    return found[1] if found and found[1].lower() not in ("html", "svg") else ""


# The first kind all of whose words stand near the beginning of a JSON file.
_JSON_WORDS = (
    ("labelme", ("shapes", "imagePath")),
    ("via", ("_via_img_metadata",)),
    ("via", ("regions", "shape_attributes")),
    ("label_studio", ("from_name", "result")),
    ("supervisely", ("classTitle", "objects")),
    ("vott", ("asset", "regions")),
    ("vott", ("assets", "tags")),
    ("createml", ("annotations", "coordinates", "label")),
    ("bdd100k", ("labels", "box2d")),
    ("labelbox", ("data_row",)),
    ("datumaro", ("items", "categories", "info")),
    ("coco", ("images", "file_name")),
    ("coco", ("annotations", "category_id")),
    ("coco", ("images", "annotations", "categories")),
)


def _sniff_json(text: str) -> str | None:
    words = set(re.findall(r'"(\w{1,30})"\s*:', text))
    return next((kind for kind, needed in _JSON_WORDS if words.issuperset(needed)), None)


_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_YOLO = re.compile(rf"\d+(?:\s+{_NUMBER}){{4,}}\s*")
_KITTI = re.compile(rf"[A-Za-z]\w*(?:\s+{_NUMBER}){{14,15}}\s*")
_DOTA = re.compile(rf"(?:{_NUMBER}\s+){{8}}\S+(?:\s+\d)?\s*")


def _sniff_lines(text: str) -> str | None:
    lines = [line for line in text[:4096].splitlines()[:10] if line.strip()][:5]
    # DOTA's files may begin with two lines of their own.
    lines = [line for line in lines if not line.startswith(("imagesource:", "gsd:"))]
    for kind, pattern in (("yolo", _YOLO), ("kitti", _KITTI), ("dota", _DOTA)):
        if lines and all(map(pattern.fullmatch, lines)):
            return kind
    return None


def _sniff_table(text: str) -> str | None:
    head = text.splitlines()[0].lower() if text else ""
    columns = set(re.split(r"[,;\t]", head.replace('"', "").replace(" ", "")))
    if {"xmin", "ymin", "xmax", "ymax"} <= columns or {"x1", "y1", "x2", "y2"} <= columns:
        return "csv"
    return "csv" if re.fullmatch(rf"[^,]+(?:,{_NUMBER}){{4}},[^,]+", head) else None


def _sniff_yaml(text: str) -> str | None:
    keys = set(re.findall(r"(?m)^(\w+)\s*:", text))
    return "yolo" if "names" in keys and keys & {"train", "val", "nc"} else None
