"""What the sections of the configuration are made of: a strict base, and kinds of values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

from detflow.text import hide_credentials

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


def _parse_seconds(value: object) -> object:
    """Reads `12m`, `1h30m` or `90s`; numbers are seconds."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None or not any(match.groups()):
        raise ValueError("expected a duration such as 12m, 1h30m or 90s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


Seconds = Annotated[float, BeforeValidator(_parse_seconds), Field(gt=0.0, allow_inf_nan=False)]


@dataclass(frozen=True)
class OneOf:
    """Marks a setting whose values are the names of a table."""

    table: Mapping[str, object]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Returns pydantic's schema of the type with the check behind it."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name in self.table:
            return name
        raise ValueError(f"expected one of {', '.join(self.table)}")


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no changes, and no value of another kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _require_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuses what pydantic would make a number of although it is none.

        That is true for 1, and text such as 010, which is 8 to some programs.
        """
        field = cls.model_fields[str(info.field_name)]
        kinds = _list_kinds(field.annotation)
        if kinds <= {int, float, ByteSize, type(None)}:
            noun = "a number" if float in kinds else "a whole number"
            reads_text = ByteSize in kinds or _reads_text(field.annotation, field.metadata)
            _refuse_others(value, noun, reads_text)
        return value


def _list_kinds(annotation: Any) -> set[Any]:
    """Returns the types that a setting's value consists of."""
    if get_origin(annotation) is Annotated:
        return _list_kinds(get_args(annotation)[0])
    if get_origin(annotation) is Literal or not get_args(annotation):
        return {annotation}
    return {kind for part in get_args(annotation) for kind in _list_kinds(part)} - {Ellipsis}


def _reads_text(annotation: Any, metadata: Sequence[Any] = ()) -> bool:
    """Tells whether a setting has a reader of text of its own."""
    return any(isinstance(entry, BeforeValidator) for entry in metadata) or any(
        isinstance(part, BeforeValidator) or _reads_text(part) for part in get_args(annotation)
    )


def _refuse_others(value: object, noun: str, reads_text: bool) -> None:
    if isinstance(value, list | tuple):
        for part in value:
            _refuse_others(part, noun, reads_text)
    elif isinstance(value, bool) or (
        isinstance(value, str) and not reads_text and not _PLAIN_NUMBER.fullmatch(value)
    ):
        raise ValueError(f"expected {noun}")


def _refuse_credentials(place: str) -> str:
    """Keeps passwords out of what is printed and of run.json, which hold the configuration."""
    if hide_credentials(place) != place:
        raise ValueError(
            "the URL carries credentials; leave them to the environment, or download it and name "
            "the file"
        )
    return place


PlaceText = Annotated[str, AfterValidator(_refuse_credentials)]
