import gzip
import io
import os
import shutil
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from detflow.errors import DataError
from detflow.storage import archives, tar_headers
from detflow.storage.archives import (
    ArchiveLimits,
    drop_archive_suffix,
    find_archive_kind,
    unpack_archive,
)


def pack_zip(path, entries, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as packed:
        for entry, content in entries:
            packed.writestr(entry, content)
    return path


def pack_tar(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as packed:
        for entry, content in entries:
            member = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def unpack(path, **limits):
    folder = path.parent / "unpacked"
    unpack_archive(path, find_archive_kind(path), folder, ArchiveLimits(**limits))
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


def zip_link(name):
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    ("pack", "name"),
    [
        (pack_zip, "a.zip"),
        (pack_tar, "a.tgz"),
        (lambda path, entries: pack_tar(path, entries, "w"), "a.tar"),
    ],
)
def test_plain_files_are_unpacked_and_hidden_ones_are_left_out(tmp_path, pack, name):
    entries = [
        ("d/images/a.jpg", b"pixels" * 9),
        ("./d/b.xml", b"<a/>"),
        ("d\\images\\c.jpg", b"from Windows"),
        ("__MACOSX/d/._b.xml", b"shadow"),
        ("d/.DS_Store", b"hidden"),
        ("d/empty.txt", b""),
    ]
    assert unpack(pack(tmp_path / name, entries)) == {
        "d/b.xml": b"<a/>",
        "d/empty.txt": b"",
        "d/images/a.jpg": b"pixels" * 9,
        "d/images/c.jpg": b"from Windows",
    }


def test_the_content_says_what_kind_it_is(tmp_path):
    assert find_archive_kind(pack_zip(tmp_path / "a.jpg", [("a", b"")])) == "zip"
    assert find_archive_kind(pack_zip(tmp_path / "empty", [])) == "zip"
    assert find_archive_kind(pack_tar(tmp_path / "b.zip", [("a", b"")])) == "tar.gz"
    for name, content in (("c", b""), ("d.zip", b"text"), ("e.gz", b"\x1f\x8bnothing")):
        (tmp_path / name).write_bytes(content)
        assert find_archive_kind(tmp_path / name) is None
    assert [drop_archive_suffix(name) for name in ("a.tar.gz", "b.ZIP", "c.d", ".zip")] == [
        "a",
        "b",
        "c.d",
        ".zip",
    ]


HOSTILE = {
    "up": ([("ok", b""), ("../evil", b"x")], "../evil: the entry leads out"),
    "up inside": ([("a/../../evil", b"x")], "the entry leads out"),
    "up by backslash": ([("..\\evil", b"x")], "the entry leads out"),
    "absolute": ([("/tmp/evil", b"x")], "/tmp/evil: the entry leads out"),
    "drive": ([("C:/evil", b"x")], "C:/evil: the entry leads out"),
    "twice": ([("a.jpg", b"1"), ("a.jpg", b"2")], "a.jpg: the entry stands twice"),
    "twice by case": ([("a.jpg", b"1"), ("A.JPG", b"2")], "the entry stands twice, the other as"),
    "twice by form": ([("e\u0301", b"1"), ("\xe9", b"2")], "the entry stands twice"),
    "file and folder": ([("a", b"1"), ("a/b", b"2")], "a: the entry is a file and a folder"),
    "folder and file": ([("a/b", b"1"), ("a", b"2")], "a: the entry is a file and a folder"),
    "long": ([("a" * 300, b"1")], "the entry's name is too long"),
    "deep": ([("a/" * 70 + "b", b"1")], "the entry's name is too long"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_entry_is_named_and_nothing_is_written_outside(tmp_path, pack, fault):
    entries, reason = HOSTILE[fault]
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a", entries)
    before = set(os.listdir(tmp_path))
    with pytest.raises(DataError) as caught:
        unpack(archive)
    assert reason in str(caught.value)
    assert caught.value.path == str(archive)
    assert set(os.listdir(tmp_path)) == before
    assert set(os.listdir(tmp_path / "in")) == {"a", "unpacked"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = pack_tar(tmp_path / "a", [(special("evil", kind, "/etc/passwd"), b"")])
    with pytest.raises(DataError, match="evil: the entry is neither a plain file nor a folder"):
        unpack(archive)
    archive = pack_zip(tmp_path / "b", [(zip_link("evil"), "/etc/passwd")])
    with pytest.raises(DataError, match="evil: the entry is neither a plain file nor a folder"):
        unpack_archive(archive, "zip", tmp_path / "c", ArchiveLimits())


@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
def test_limits_are_kept_before_anything_is_taken(tmp_path, pack):
    zeros = [("a.bmp", bytes(500_000)), ("b.bmp", bytes(500_000))]
    archive = pack(tmp_path / "a", zeros)
    with pytest.raises(DataError, match=r"b\.bmp: the archive unpacks to more than 900,000 byte"):
        unpack(archive, max_bytes=900_000)
    (tmp_path / "unpacked" / "a.bmp").unlink(missing_ok=True)
    os.rmdir(tmp_path / "unpacked")
    with pytest.raises(DataError, match="the archive has more than 1 entries"):
        unpack(archive, max_entries=1)


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    archive = pack_zip(tmp_path / "a.zip", [("a", bytes(30 << 20))])
    with pytest.raises(DataError, match="a: the archive unpacks to more than 100 times its size"):
        unpack(archive)
    assert os.listdir(tmp_path / "unpacked") == []


def test_entries_are_counted_before_they_are_read(tmp_path, monkeypatch):
    # Only the list at the end is there, with entries of the smallest size.
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *(0,) * 6, *(0,) * 3, 1, *(0,) * 4, 0, 0) + b"a"
    listed = entry * 2_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(listed), 0, 0)
    archive = tmp_path / "a.zip"
    archive.write_bytes(listed + end)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(DataError, match="the archive has more than 1,000 entries"):
        unpack_archive(archive, "zip", tmp_path / "out", ArchiveLimits(max_entries=1_000))


def test_a_header_that_wants_gigabytes_is_refused(tmp_path):
    member = special("long", tarfile.GNUTYPE_LONGNAME)
    member.size = 1 << 33
    archive = tmp_path / "a.tar"
    archive.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match="not a whole tar archive: a header is too large"):
        unpack(archive)


def test_headers_of_one_member_are_bounded_together(tmp_path):
    """tarfile holds all of them until the member comes, and packed they are nothing."""
    member = special("long", tarfile.GNUTYPE_LONGNAME)
    member.size = 300 << 10
    with gzip.open(tmp_path / "a.tar.gz", "wb") as packed:
        for _ in range(40):
            packed.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(member.size))
    tracemalloc.start()
    with pytest.raises(DataError, match="a header is too large"):
        unpack(tmp_path / "a.tar.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_members_of_long_names_each_have_their_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_headers, "_MAX_HEADERS_BYTES", 10_000)
    folder = f"{'a' * 240}/" * 12
    entries = [(f"{folder}{i}.jpg", b"x" * 20_000) for i in range(9)]
    assert len(unpack(pack_tar(tmp_path / "a", entries))) == 9


@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
def test_the_letters_of_all_names_are_bounded(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(archives, "_MAX_NAMES_LETTERS", 40_000)
    archive = pack(tmp_path / "a", [(f"{'a/' * 60}{i}", b"") for i in range(100)])
    assert len(unpack(archive)) == 100
    shutil.rmtree(tmp_path / "unpacked")
    archive = pack(tmp_path / "a", [(f"{i}/{'a/' * 60}b", b"") for i in range(100)])
    with pytest.raises(DataError, match="the archive have more than 40,000 letters"):
        unpack(archive)


def test_a_list_of_entries_that_is_as_long_as_the_names_in_it_is_refused(tmp_path):
    archive = pack_zip(tmp_path / "a.zip", [("a" * 2_000, b"")])
    with pytest.raises(DataError, match="its list of entries is too large"):
        unpack(archive, max_entries=1)


def test_an_encrypted_archive_is_refused_in_one_line(tmp_path):
    archive = pack_zip(tmp_path / "a.zip", [("a.jpg", b"x" * 50)])
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError) as caught:
        unpack(archive)
    assert str(caught.value) == (
        f"{archive}:a.jpg: the archive is encrypted; unpack it and name the folder"
    )


@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
def test_damage_anywhere_is_a_refusal(tmp_path, pack):
    content = os.urandom(3000)
    whole = pack(tmp_path / "a", [("a.jpg", content), ("b.jpg", content[:99])]).read_bytes()
    for place in range(0, len(whole), 211):
        (tmp_path / "b").write_bytes(
            whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        )
        for archive in (tmp_path / "b", tmp_path / "cut"):
            (tmp_path / "cut").write_bytes(whole[:place])
            folder = tmp_path / f"out{place}{archive.name}"
            try:
                kind = find_archive_kind(archive)
                if kind is not None:
                    unpack_archive(archive, kind, folder, ArchiveLimits())
            except DataError:
                continue
