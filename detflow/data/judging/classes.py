"""What classes are called: one form for each name, what the user renames, the nearest known name.

Nobody sees the difference between a composed and a decomposed letter, or a character without width:
names that differ so are one class.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from detflow.data.findings import Finding
from detflow.data.judging.nearest import NearestNames
from detflow.data.sources.source import RawAnnotation
from detflow.errors import ConfigError
from detflow.text import count_noun

# Soft hyphen, zero-width space, marks of direction, word joiner, byte order mark and their like.
_UNSEEN = "\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
# The two joiners shape letters of Arabic and Indian scripts, and emoji; elsewhere nothing.
_SHAPED = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1820-\u18aa\ufe0f\u2600-\U0001faff"
_INVISIBLE = re.compile(f"[{_UNSEEN}]|(?<![{_SHAPED}])[\u200c\u200d]|[\u200c\u200d](?![{_SHAPED}])")


@lru_cache(maxsize=4096)
def normalise_class(name: str) -> str:
    """Returns a class name composed (NFC), without what nobody sees, white space collapsed."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", _INVISIBLE.sub("", name))
    return " ".join(name.split())


def read_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the class names that a user chooses, normalised.

    Raises:
        ConfigError: A name is empty or stands twice.
    """
    if isinstance(names, str):
        raise ConfigError("the classes are one text", remedy="give a list of names")
    first: dict[str, str] = {}
    for name in names:
        normal = normalise_class(name)
        if not normal:
            raise ConfigError("--classes has an empty name", remedy="remove it")
        if normal in first:
            also = "" if name == first[normal] else f", the second time as {name!a}"
            raise ConfigError(f"--classes names {normal!r} twice{also}", remedy="remove one")
        first[normal] = name
    if not first:
        raise ConfigError("--classes names no class", remedy="leave it out, or name one")
    return tuple(first)


def read_renames(renames: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the new name of each class that a user renames, normalised.

    Raises:
        ConfigError: A name is empty, is its own new name, or is renamed twice.
    """
    found: dict[str, str] = {}
    for pair in renames:
        old, new = map(normalise_class, pair)
        if not old or not new:
            raise ConfigError("--rename has an empty name", remedy="write OLD=NEW")
        if old == new:
            raise ConfigError(f"--rename: {old!r} has that name already", remedy="leave it out")
        if old in found:
            raise ConfigError(f"--rename renames {old!r} twice", remedy="remove one")
        found[old] = new
    return found


def settle_classes(names: Iterable[str], renames: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the classes that a dataset declares, normalised and renamed, each once."""
    normal = map(normalise_class, names)
    return tuple(dict.fromkeys(renames.get(name, name) for name in normal))


def settle_names(
    annotation: RawAnnotation, renames: Mapping[str, str]
) -> tuple[RawAnnotation, tuple[str, ...]]:
    """Gives the objects of an annotation the normal form of their names, or their new names.

    All renames are made at once: with A=B and B=C, an A becomes a B and stays one.

    Args:
        annotation: As written.
        renames: The new name of each class that is renamed, both normalised.

    Returns:
        The annotation, with a finding for each name that changed, and the classes renamed.
    """
    objects = annotation.objects or ()
    written = dict.fromkeys(raw.name for raw in objects)
    normal = {name: normalise_class(name) for name in written}
    settled = {name: renames.get(form, form) for name, form in normal.items()}
    if all(name == form for name, form in settled.items()):
        return annotation, ()
    counts = Counter(raw.name for raw in objects)
    lines: dict[str, int] = {}
    for raw in objects:
        lines.setdefault(raw.name, raw.line)
    findings = list(annotation.findings)

    def note(code: str, name: str, value: str, expected: str = "") -> None:
        findings.append(
            Finding(
                code,
                annotation.path,
                lines[name],
                value=f"{value}, {count_noun(counts[name], 'object')}",
                expected=expected,
                entry=annotation.entry,
            )
        )

    for name, form in normal.items():
        if not form:
            note("name_missing", name, ascii(name))
        elif form != name:
            is_space = form == " ".join(name.split())
            code = "name_whitespace" if is_space else "name_unicode"
            note(code, name, ascii(name), ascii(form))
        if form in renames:
            note("class_renamed", name, repr(form), repr(renames[form]))
    named = tuple(raw._replace(name=settled[raw.name]) for raw in objects)
    changed = replace(
        annotation, objects=named if all(normal.values()) else None, findings=tuple(findings)
    )
    return changed, tuple(form for form in dict.fromkeys(normal.values()) if form in renames)


class KnownClasses:
    """The classes that may occur, ready for many questions.

    Args:
        names: Their names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._nearest = NearestNames(names) if names else None

    def __contains__(self, name: str) -> bool:
        """Whether a class may occur."""
        return name in self._names

    def find_nearest(self, name: str) -> str:
        """Returns the class that is most like another name; empty where there is none."""
        return self._nearest.find(name) if self._nearest else ""


@lru_cache(maxsize=4)
def index_classes(names: tuple[str, ...]) -> KnownClasses:
    """Returns the classes that may occur, ready for many questions."""
    return KnownClasses(names)
