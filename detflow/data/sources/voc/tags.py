"""Elements under other names than VOC's: found, and renamed where only one thing can be meant.

People and tools write `<Object>`, `<obj>`, `<Xmin>` or `<v:bndbox>`. What bears a box must not be
lost for that: it is read under VOC's name, with a finding, or it is named and sets the file aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lxml import etree

from detflow.data.findings import Finding
from detflow.data.sources.voc.parse import Unreadable, line_of

CORNERS = ("xmin", "ymin", "xmax", "ymax")
IMAGE_TAGS = frozenset(
    {"folder", "filename", "path", "source", "owner", "size", "segmented", "object"}
)
"""The children of `<annotation>` that need no second look."""
OBJECT_TAGS = frozenset(
    {
        *("name", "pose", "truncated", "difficult", "occluded", "bndbox", "part", "attributes"),
        *("actions", "point", "trackid", "generated", "id", "area", "type", "confidence"),
    }
)
"""The children of `<object>` that need no second look."""

_IMAGE_FIELDS = frozenset({"filename", "path", "folder", "size"})
_SIZE_FIELDS = frozenset({"width", "height", "depth"})
_OBJECT_FIELDS = frozenset(
    {"name", "pose", "truncated", "difficult", "bndbox", "robndbox", "polygon", "deleted", *CORNERS}
)
_OBJECT_NAMES = frozenset({"object", "obj"})
_BOX_NAMES = frozenset({"bndbox", "bbox", "box", "boundingbox"})
_BEARERS = frozenset({*_BOX_NAMES, "robndbox", "polygon", "object"})
_Rename = Callable[[etree._Element, str], None]


def fold(tag: str) -> str:
    """Returns a tag without namespace, case and separators."""
    return tag.rpartition("}")[2].lower().replace("_", "").replace("-", "")


def find_root(root: etree._Element, path: str) -> list[Finding]:
    """Takes an annotation's root under whatever case and namespace.

    If all elements are in one namespace, that says nothing about what is in them.

    Raises:
        Unreadable: It is no annotation. If VOC's objects are in it all the same, it is set aside.
    """
    if "}" in root.tag:
        namespace = root.tag.rpartition("}")[0] + "}"
        for element in root.iter():
            element.tag = element.tag.removeprefix(namespace)
    if root.tag == "annotation":
        return []
    if fold(root.tag) == "annotation":
        finding = _name_tag(root, "annotation", path)
        root.tag = "annotation"
        return [finding]
    bearer = next(_find_objects(root), None)
    if bearer is None:
        raise Unreadable(Finding("xml_not_voc", path, line=line_of(root), value=f"<{root.tag}>"))
    raise Unreadable(
        Finding(
            "box_astray",
            path,
            line=line_of(bearer),
            value=f"<{bearer.tag}> inside <{root.tag}>",
            expected="<object> as a child of <annotation>",
        )
    )


def tidy(root: etree._Element, path: str) -> list[Finding]:
    """Renames what is meant in an annotation's tree.

    Returns:
        A finding for each spelling that is not VOC's.

    Raises:
        Unreadable: A box stands where it belongs to no object.
    """
    renamed: dict[str, Finding] = {}

    def rename(element: etree._Element, tag: str) -> None:
        if element.tag != tag:
            renamed.setdefault(element.tag, _name_tag(element, tag, path))
            element.tag = tag

    for child in root:
        tag = fold(child.tag)
        if tag in _OBJECT_NAMES and (len(child) or child.attrib):
            rename(child, "object")
            siblings = frozenset(fold(field.tag) for field in child)
            for field in child:
                _rename_field(field, siblings, rename, path)
        elif (bearer := next(_find_bearers(child), None)) is not None:
            raise _name_stray(bearer, path)
        elif tag in _IMAGE_FIELDS:
            rename(child, tag)
            if tag == "size":
                for side in child:
                    if fold(side.tag) in _SIZE_FIELDS:
                        rename(side, fold(side.tag))
    return list(renamed.values())


def _rename_field(
    field: etree._Element, siblings: frozenset[str], rename: _Rename, path: str
) -> None:
    tag = fold(field.tag)
    if tag in _BOX_NAMES:
        # Beside a box of VOC's name, another one may be anything.
        if tag != "bndbox" and "bndbox" in siblings:
            return
        rename(field, "bndbox")
        for corner in field:
            if fold(corner.tag) in CORNERS:
                rename(corner, fold(corner.tag))
    elif tag in _OBJECT_FIELDS:
        rename(field, tag)
    elif tag in _OBJECT_NAMES and len(field):
        rename(field, "object")
    elif field.tag not in OBJECT_TAGS and any(fold(inner.tag) == "name" for inner in field):
        bearer = next(_find_bearers(field), None)
        if bearer is not None:
            raise _name_stray(bearer, path)


def _find_objects(root: etree._Element) -> Iterator[etree._Element]:
    """Yields elements that can only be meant as VOC's, in a file of unknown kind."""
    for element in root.iter():
        if fold(element.tag) in ("bndbox", "robndbox") or _has_corners(element):
            yield element


def _find_bearers(element: etree._Element) -> Iterator[etree._Element]:
    for inner in element.iter():
        is_named = fold(inner.tag) in _BEARERS and (len(inner) or inner.attrib or inner.text)
        if is_named or _has_corners(inner):
            yield inner


def _name_stray(bearer: etree._Element, path: str) -> Unreadable:
    parent = bearer.getparent()
    inside = "" if parent is None else f" inside <{parent.tag}>"
    return Unreadable(
        Finding(
            "box_astray",
            path,
            line=line_of(bearer),
            value=f"<{bearer.tag}>{inside}",
            expected="<bndbox> inside <object>",
        )
    )


def _has_corners(element: etree._Element) -> bool:
    names = {fold(child.tag) for child in element} | {fold(str(key)) for key in element.attrib}
    return names.issuperset(CORNERS)


def _name_tag(element: etree._Element, tag: str, path: str) -> Finding:
    namespace, _, local = element.tag.rpartition("}")
    value = f"<{element.prefix}:{local}>" if namespace and element.prefix else f"<{local}>"
    if namespace:
        value += f" in the namespace {namespace[1:81]}"
    return Finding("tag_misspelt", path, line=line_of(element), value=value, expected=f"<{tag}>")
