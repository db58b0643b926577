import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.digests import (
    digest_files,
    is_sealed,
    read_json_object,
    read_sealed_object,
    seal,
    verify_files,
)
from detflow.errors import ArtifactError


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"abd"), "SHA-256"),
        (lambda path: path.write_bytes(b"ab"), "2 bytes"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "not a plain file"),
    ],
)
def test_damage_is_found_and_named(tmp_path, damage, message):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"abc")
    digests = digest_files(tmp_path)
    verify_files(tmp_path, digests)
    damage(tmp_path / "sub" / "a")
    with pytest.raises(ArtifactError, match=message):
        verify_files(tmp_path, digests)


@pytest.mark.parametrize("name", ["../a", "/etc/hostname", "a/../../b", ""])
def test_a_manifest_cannot_point_outside(tmp_path, name):
    with pytest.raises(ArtifactError, match="not a plain file"):
        verify_files(tmp_path, {name: {"bytes": 1, "sha256": "0"}})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.symlink_to("/etc/hostname"), "is missing"),
        (lambda path: path.write_text("[1, 2]"), "expected a JSON object"),
        (lambda path: path.write_text('{"a": '), "not valid JSON"),
        (lambda path: path.write_text("[" * 100_000), "not valid JSON"),
        (lambda path: (path.touch(), os.truncate(path, (64 << 20) + 1)), "is larger than"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path, write, message):
    write(tmp_path / "a.json")
    with pytest.raises(ArtifactError, match=rf"a\.json: .*{message}"):
        read_json_object(tmp_path / "a.json")


def test_a_manifest_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1]}')
    assert read_json_object(tmp_path / "a.json") == {"a": [1]}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4).filter("digest".__ne__), VALUES, max_size=4))
def test_what_is_sealed_is_known_again_however_it_is_laid_out(content):
    for layout in ({}, {"indent": 2}, {"sort_keys": True}, {"ensure_ascii": False}):
        assert is_sealed(json.loads(json.dumps(seal(content), **layout)))
    assert seal(seal(content))["digest"] == seal(content)["digest"]


def test_keys_and_tuples_are_sealed_as_json_reads_them():
    assert is_sealed(json.loads(json.dumps(seal({"sizes": {10: (1, 2), 9: (3,)}}))))


def test_every_flipped_bit_of_a_sealed_file_is_noticed_or_changes_nothing(tmp_path, flip_bits):
    path = tmp_path / "state.json"
    written = {"step": 10, "metrics": {"AP": 0.5, "AP50": None}, "classes": ["cat", "Hündin"]}
    path.write_text(json.dumps(seal(written), indent=2) + "\n")
    for read in flip_bits(path, lambda: read_sealed_object(path), 1000):
        assert read == seal(written)


@pytest.mark.parametrize("nested", ["[]", "{}"])
def test_any_depth_is_an_error_of_one_line(nested, tmp_path):
    """Between what Python reads and what it writes again lie a few levels."""
    path = tmp_path / "model.json"
    opening = '{"a":' if nested == "{}" else "["
    for depth in (*range(900, 1_000, 3), 100_000):
        inner = opening * depth + "0" + nested[1] * depth
        path.write_text(f'{{"digest": "0", "a": {inner}}}')
        with pytest.raises(ArtifactError):
            read_sealed_object(path)
