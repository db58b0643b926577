"""Where a folder lies: a path, or the URL of a prefix in an object store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detflow.errors import ConfigError
from detflow.text import hide_credentials

EXTRAS: Final = {"s3": "s3", "gs": "gcs", "memory": None}
"""The schemes of URLs, each with detflow's extra that brings its library; `memory` is a store
inside this process, for tests."""

_CONTROL = re.compile(r"[\0-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Url:
    """A prefix in an object store, or one object. Plain data: it can be sent to another process.

    Attributes:
        scheme: One of `EXTRAS`.
        key: The bucket, then the parts of the prefix, with slashes between and none at the ends.
    """

    scheme: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Reads `s3://bucket/prefix`.

        Raises:
            ConfigError: The scheme is unknown, a part of the path is empty, `.` or `..`, or the URL
                carries credentials.
        """
        scheme, _, rest = text.partition("://")
        key = rest.removesuffix("/")
        parts = key.split("/")
        if scheme not in EXTRAS:
            known = ", ".join(f"{name}://" for name in EXTRAS if EXTRAS[name])
            raise ConfigError(
                f"no URL that detflow reads: {scheme}://",
                path=text,
                remedy=f"use a path, or {known}",
            )
        if "@" in parts[0] or hide_credentials(text) != text:
            remedy = "leave them to the environment, a profile or the machine's role"
            raise ConfigError("the URL carries credentials", path=text, remedy=remedy)
        # Clients resolve dots before they send a request, so that such a key would lead out of the
        # prefix.
        if any(part in ("", ".", "..") for part in parts) or _CONTROL.search(key) or "::" in text:
            raise ConfigError(
                "a part of the URL is empty, dots or a control character",
                path=text,
                remedy="write it plainly",
            )
        return cls(scheme, key)

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> Url:
        """The prefix that this one lies in; a bucket lies in itself."""
        return Url(self.scheme, self.key.rpartition("/")[0] or self.key)

    @property
    def has_prefix(self) -> bool:
        """Whether it names more than a bucket."""
        return "/" in self.key

    def __truediv__(self, name: str) -> Url:
        return Url(self.scheme, f"{self.key}/{name}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def holds(self, other: Url) -> bool:
        """Whether `other` is this prefix or lies below it."""
        return self.scheme == other.scheme and f"{other.key}/".startswith(f"{self.key}/")


Location = Path | Url
"""A folder or file: a path, or a URL."""


def is_url(text: str) -> bool:
    """Whether a text means a URL and not a path."""
    return "://" in text


def require_local(text: str) -> Path:
    """Returns a path where only a file system will do.

    Raises:
        ConfigError: It is a URL. A path of that name would be a folder `s3:`.
    """
    if is_url(text):
        raise ConfigError("a URL does not work here", path=text, remedy="name a local path")
    return Path(text)


def parse_location(text: str) -> Location:
    """Reads a path or a URL.

    Raises:
        ConfigError: It is a URL that detflow does not read.
    """
    return Url.parse(text) if is_url(text) else Path(text)
