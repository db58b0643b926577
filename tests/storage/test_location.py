from pathlib import Path

import pytest

from detflow.errors import ConfigError
from detflow.storage.location import Url, parse_location


def test_paths_and_urls():
    assert parse_location("runs/a") == Path("runs/a")
    url = parse_location("s3://bucket/some prefix/ü/")
    assert url == Url("s3", "bucket/some prefix/ü")
    assert (str(url), url.name, str(url.parent), str(url / "a.xml")) == (
        "s3://bucket/some prefix/ü",
        "ü",
        "s3://bucket/some prefix",
        "s3://bucket/some prefix/ü/a.xml",
    )
    assert not Url("gs", "bucket").has_prefix


def test_what_a_prefix_holds():
    assert Url("s3", "b/set").holds(Url("s3", "b/set/records"))
    assert not Url("s3", "b/set").holds(Url("s3", "b/settle"))
    assert not Url("s3", "b/set").holds(Url("gs", "b/set"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://host/set", "no URL that detflow reads"),
        ("file:///etc", "no URL that detflow reads"),
        ("simplecache::s3://b/x", "no URL that detflow reads"),
        ("s3://b/x::zip://y", "empty, dots or a control"),
        ("s3://", "empty, dots or a control"),
        ("s3://b//x", "empty, dots or a control"),
        ("s3://b/../other", "empty, dots or a control"),
        ("s3://b/./x", "empty, dots or a control"),
        ("s3://b/x\n", "empty, dots or a control"),
    ],
)
def test_what_is_no_plain_url_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_location(text)


@pytest.mark.parametrize(
    "text", ["s3://key:secret@bucket/set", "s3://bucket/set?X-Amz-Signature=secret"]
)
def test_credentials_are_refused_and_not_shown(text):
    with pytest.raises(ConfigError, match="carries credentials") as caught:
        parse_location(text)
    assert "secret" not in str(caught.value)
