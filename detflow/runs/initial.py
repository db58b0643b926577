"""What a record says of the weights that a run began with, read as something that others wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_TEXTS: Final = (("name", "data", "licence"), ("stated_licence",))


def read_initial_weights(content: object) -> Mapping[str, Any] | None:
    """Returns the entry of a record that says where initial weights came from.

    Args:
        content: The entry; None of a run from scratch. It has the `source`, the digests of `files`
            and the `terms`, which are those of `InitialWeights`.

    Raises:
        ValueError: It does not have this form.
    """
    if content is None:
        return None
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("source"), str)
        or not isinstance(content.get("files"), dict)
        or not _are_terms(content.get("terms"))
    ):
        raise ValueError("initial_weights are not what a run has there")
    return content


def _are_terms(terms: object) -> bool:
    # One run may have begun with another one's weights, and so on: no recursion follows a stranger.
    while isinstance(terms, dict) and "records" in terms:
        if not isinstance(terms["records"], str) or not _are_lessons(terms.get("learnt")):
            return False
        terms = terms.get("begun_with", ())
        if terms is None:
            return True
    if not isinstance(terms, dict):
        return False
    return not terms or any(
        set(terms) == set(names) and all(isinstance(terms[name], str) for name in names)
        for names in _TEXTS
    )


def _are_lessons(lessons: object) -> bool:
    return isinstance(lessons, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in lessons
    )
