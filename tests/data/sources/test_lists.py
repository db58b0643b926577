import codecs
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sources.lists import EntryFinder, read_list
from detflow.storage.folders import LocalFolder


@pytest.fixture
def read(tmp_path):
    """Reads a list with some content; the annotations lie in `xml`, the images in `img`."""

    def run(content, names, path="train.txt", pairs=None):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        annotations = [f"xml/{name}.xml" for name in names]
        if pairs is None:
            pairs = {f"xml/{name}.xml": f"img/{name}.jpg" for name in names}
        return read_list(LocalFolder.of(tmp_path), path, EntryFinder(annotations, pairs))

    return run


def stems(found):
    return [path.removeprefix("xml/").removesuffix(".xml") for path in found.found]


@pytest.mark.parametrize(
    ("encoding", "bom", "names"),
    [
        ("utf-8", b"", ["a1", "猫2"]),
        ("utf-8", codecs.BOM_UTF8, ["a1", "猫2"]),
        ("utf-16-le", codecs.BOM_UTF16_LE, ["a1", "猫2"]),
        ("utf-16-be", codecs.BOM_UTF16_BE, ["a1", "猫2"]),
        ("utf-16-le", b"", ["a1", "猫2"]),
        ("utf-16-be", b"", ["a1", "猫2"]),
        ("utf-32-le", codecs.BOM_UTF32_LE, ["a1", "猫2"]),
        ("utf-32-be", b"", ["a1", "猫2"]),
        ("gbk", b"", ["a1", "照片2", "é3"]),
        ("cp1252", b"", ["a1", "café2", "Straße3", "10€"]),
        ("latin-1", b"", ["a1", "café2"]),
        ("cp1251", b"", ["a1", "кот2"]),
        ("cp932", b"", ["a1", "ねこ2"]),
        ("cp949", b"", ["a1", "고양이2"]),
        ("big5", b"", ["a1", "貓2"]),
        ("cp437", b"", ["a1", "café2"]),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_the_names_of_the_set_decide_the_encoding(read, encoding, bom, names, line_end):
    found = read(bom + line_end.join([*names, ""]).encode(encoding), names)
    assert (stems(found), found.missing, found.fault) == (names, (), "")


def test_names_of_files_that_are_no_utf_8_are_found_by_their_bytes(read):
    name = "照片".encode("gbk").decode("utf-8", "surrogateescape")
    assert stems(read("照片\n".encode("gbk"), [name, "照片"])) == [name]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFKD", "NFC")])
def test_unicode_form_and_case_make_no_difference(read, forms):
    listed, named = (unicodedata.normalize(form, "ÉCOLE-Größe1") for form in forms)
    assert stems(read(f"{listed.lower()}.JPG\n", [named])) == [named]


def test_the_exact_name_goes_before_one_in_another_case(read):
    assert stems(read("A\na\n", ["a", "A"])) == ["A", "a"]
    assert read("É\n", ["é", "e"]).found == {"xml/é.xml": None}


@pytest.mark.parametrize(
    "line",
    [
        "b c",
        "b c.jpg",
        "b c.xml",
        "  ./img/b c.JPG  ",
        "/home/me/set/img/b c.jpg",
        "D:\\set\\img\\b c.jpg",
        "\ufeffb c.jpg",
        '"b c.jpg"',
        "'b c'",
        "img/b c.jpg xml/b c.xml",
        "img/b c.jpg\txml/b c.xml",
        "img/b c.jpg,xml/b c.xml",
        '"img/b c.jpg","xml/b c.xml"',
        "/data/VOC2007/JPEGImages/b c.jpg 48,240,195,371,11 8,12,352,498,14",
        "/data/VOC2007/JPEGImages/b c.jpg 48,240,195,371,dog 8,12,352,498,cat",
        "b c.jpg 12",
        "b c 1 2.5 -3",
        "b c\tdog",
        "b c;dog;1",
        "n01440764/b c 7",
    ],
)
def test_what_a_line_can_be(read, line):
    found = read(f"{line}\n", ["b c", "c"])
    assert (stems(found), found.missing) == (["b c"], ())


def test_a_first_column_is_no_name_that_has_another_ending(read):
    assert read("b gone.jpg\n", ["b"]).found == {}


def test_columns_that_disagree_and_lines_that_name_nothing_are_missing(read):
    found = read("# all\n; more\nimg/a.jpg xml/b.xml\ngone\n\n// x\na\na.jpg\n", ["a", "b"])
    assert stems(found) == ["a"]
    assert found.missing == ((3, "img/a.jpg xml/b.xml"), (4, "gone"))
    assert found.twice == ((8, "a.jpg"),)


def test_a_name_may_look_like_a_comment_or_hold_a_backslash(read):
    assert stems(read("#1\na\\b\n", ["#1", "a\\b", "b"])) == ["#1", "a\\b"]


def test_folders_of_another_machine_decide_between_equal_names(read):
    pairs = {"xml/a/1.xml": "img/a/1.jpg", "xml/b/1.xml": "img/b/1.jpg"}
    names = ["a/1", "b/1"]
    assert stems(read("C:\\x\\IMG\\B\\1.jpg\n", names, pairs=pairs)) == ["b/1"]
    found = read("1\nc/1\n", names, pairs=pairs)
    assert [entry for _, entry in found.missing] == ["1", "c/1"]


def test_a_list_is_about_the_nearest_folder_with_annotations(read):
    names = ["one/a", "two/a"]
    assert stems(read("a\n", names, "xml/two/ImageSets/Main/train.txt", {})) == ["two/a"]
    assert stems(read("a\n", names, "xml/one/lists/deep/train.txt", {})) == ["one/a"]


def test_flags_of_a_class_are_told_from_names_with_numbers(read):
    flagged = read("a 1\nb -1\n", ["a", "b"], "cat_train.txt")
    assert flagged.is_of_class
    assert stems(flagged) == ["a", "b"]
    assert stems(read("photo 1\nphoto 0\n", ["photo 1", "photo 0"])) == ["photo 1", "photo 0"]


def test_boxes_of_one_image_are_no_list(read):
    assert read("0 0.5 0.5 0.25 1\n3 .1 .2 .3 1e-05\n", ["a"], "train_a.txt") is None
    assert read("000005\n000007 1\n", ["000005"]) is not None


def test_a_list_that_is_too_large_is_named(read, monkeypatch):
    monkeypatch.setattr("detflow.data.sources.lists._MAX_LIST_BYTES", 3)
    assert read("aaaa", ["a"]).fault == "it has more than 3 bytes"


@given(st.binary(max_size=200))
def test_any_bytes_are_read(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("lists", numbered=True)
    (folder / "train.txt").write_bytes(content)
    found = read_list(LocalFolder.of(folder), "train.txt", EntryFinder(["a.xml", "b.xml"], {}))
    assert found is None or all(entry for _, entry in found.missing)


def test_hostile_lines_cost_little(read):
    lines = ["1 " * 100_000 + "x", "a.jpg" * 100_000, "." * 400_000, '"' * 400_000, "\\" * 400_000]
    assert len(read("\n".join(lines), ["a"]).missing) == len(lines)
