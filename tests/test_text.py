import pytest
from hypothesis import given
from hypothesis.strategies import text

from detflow.text import (
    PLAIN_ERRORS,
    count_noun,
    escape_lines,
    escape_unprintable,
    find_nearest,
    first_line,
    hide_credentials,
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one \ntwo"), "one"),
        (ValueError(""), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        ("one\ntwo", "one"),
    ],
)
def test_the_first_line_is_never_missing(error, line):
    assert first_line(error) == line


def test_the_nearest_name_is_found_or_none():
    assert find_nearest("trian", ["val", "train"]) == "train"
    assert find_nearest("trian", ["val"]) is None
    assert find_nearest("trian", ["val"], cutoff=0.0) == "val"
    assert find_nearest("trian", []) is None


def test_counts_agree_with_their_noun():
    assert count_noun(1, "thread") == "1 thread"
    assert count_noun(0, "thread") == "0 threads"
    assert count_noun(1204, "class", "classes") == "1,204 classes"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("Straße 猫 🐈", "Straße 猫 🐈"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\rb\nc\td\x7f", "a\\rb\\nc\\td\\x7f"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("gpj.\u202eexe\u2028", "gpj.\\u202eexe\\u2028"),
        ("zero\u200bwidth\u00a0space", "zero\\u200bwidth\\xa0space"),
        ("caf\udce9", "caf\\udce9"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_shown_as_its_escape(name, shown):
    assert escape_unprintable(name) == shown
    assert escape_unprintable(name).isprintable()
    assert escape_lines(f"{name}\n{name}".replace(name, shown)) == f"{shown}\n{shown}"


@given(text())
def test_no_text_can_steer_a_terminal(name):
    assert escape_unprintable(name).isprintable()
    assert all(line.isprintable() for line in escape_lines(name).split("\n"))


def test_an_encoding_that_lacks_a_character_gets_a_plain_one():
    shown = "3 × a → b … – 猫 \udce9".encode("ascii", PLAIN_ERRORS)
    assert shown == b"3 x a -> b ... - \\u732b \\udce9"
    assert "× Ж 猫".encode("cp1251", PLAIN_ERRORS) == b"x \xc6 \\u732b"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", PLAIN_ERRORS)


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "X-Amz-Credential",
        "X%2DGoog%2DSignature",
        "AWSAccessKeyId",
        "Signature",
        "sig",
        "access_token",
        "api-key",
        "apikey",
        "key",
        "client_secret",
        "password",
        "SharedAccessSignature",
    ],
)
def test_a_token_in_an_address_is_hidden_wherever_it_stands(name):
    secret = "aZ%2F+9/k=="
    for line in (
        f"https://host/a.tar.gz?{name}={secret}",
        f"https://host/a.tar.gz?{name}={secret}; correct the address",
        f"https://host/a.tar.gz?size=9&amp;{name}={secret}&x=1#top",
        f'the server answers 403: "s3:/host/a?x=1&{name}={secret}"',
        f"https://host/a#{name}={secret}",
        f"GET /a?{name}={secret} HTTP/1.1",
    ):
        assert "9/k" not in hide_credentials(line)
        assert hide_credentials(line).replace("…", secret) == line


def test_what_is_no_secret_is_shown():
    for line in (
        "https://host/a.jpg?download=true&design=3&author=me&size=9",
        "s3://bucket/set=1/train&val",
        "expected key=value; policy=3",
        "a=b?c",
    ):
        assert hide_credentials(line) == line
    assert hide_credentials("https://me:pass@host/a?x=1") == "https://host/a?x=1"


@given(text(alphabet="?&=;#tokensig%2D:/@ "))
def test_hiding_hides_once_and_takes_no_other_words(words):
    assert hide_credentials(hide_credentials(words)) == hide_credentials(words)
