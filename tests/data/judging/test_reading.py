import errno

import pytest

from detflow.data.judging.reading import UnreadableFile, read_files
from detflow.data.rules import Action
from detflow.errors import DataError
from detflow.storage.folders import LocalFolder


def test_every_file_behind_one_that_cannot_be_read_is_read(voc_set, deny):
    for name in "abcd":
        voc_set.write(name, name)
    (voc_set.root / "link").symlink_to("nowhere")
    deny("b", "d")
    paths = ["a", "b", "link", "c", "d", "a"]
    assert list(read_files(LocalFolder.of(voc_set.root), paths, 9)) == [
        b"a",
        UnreadableFile("permission denied"),
        UnreadableFile("the link leads nowhere"),
        b"c",
        UnreadableFile("permission denied"),
        b"a",
    ]


def test_a_file_that_was_removed_ends_the_run(voc_set):
    voc_set.write("a", "a")
    with pytest.raises(DataError, match="removed while the dataset was being read"):
        list(read_files(LocalFolder.of(voc_set.root), ["a", "gone"], 9))


def test_what_the_machine_refuses_ends_the_run(voc_set, monkeypatch):
    def refuse(self, path, limit):
        raise OSError(errno.EMFILE, "too many open files", path)

    monkeypatch.setattr(LocalFolder, "read", refuse)
    with pytest.raises(OSError, match="too many"):
        list(read_files(LocalFolder.of(voc_set.root), ["a"], 9))


def test_all_that_must_not_be_read_is_named_at_once_and_the_sums_add_up(voc_set, audit, deny):
    for name in "abcdef":
        voc_set.add(name)
    (voc_set.root / "annotations/link.xml").symlink_to("nowhere.xml")
    voc_set.write("notes.pdf", "")
    deny("images/a.jpg", "images/b.jpg", "annotations/c.xml", "annotations/d.xml", "notes.pdf")
    result = audit()
    assert audit.found(result, Action.QUARANTINED, Action.NOTED) == [
        ("file_unseen", "notes.pdf", None, None),
        ("file_unreadable", "annotations/a.xml", None, None),
        ("file_unreadable", "annotations/b.xml", None, None),
        ("file_unreadable", "annotations/c.xml", None, None),
        ("file_unreadable", "annotations/d.xml", None, None),
        ("file_unreadable", "annotations/link.xml", None, None),
    ]
    values = [finding.value for finding in result.findings(Action.QUARANTINED)]
    assert values[:3] == [
        "images/a.jpg: permission denied",
        "images/b.jpg: permission denied",
        "permission denied",
    ]
    assert result.annotations_found == 7 == len(result.samples) + len(result.quarantined)


def test_a_folder_that_must_not_be_opened_refuses_the_set_and_the_rest_is_judged(
    voc_set, audit, deny
):
    voc_set.add("a")
    voc_set.add("b", images="more/images", annotations="more/annotations")
    deny("more/annotations", "more/images")
    result = audit()
    assert sorted(audit.found(result, Action.REFUSED)) == [
        ("folder_unreadable", "more/annotations", None, None),
        ("folder_unreadable", "more/images", None, None),
    ]
    assert list(result.samples) == ["annotations/a.xml"]
