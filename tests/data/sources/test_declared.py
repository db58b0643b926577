import pytest

from detflow.data.sources.declared import declared_splits
from detflow.data.sources.layout import find_files
from detflow.data.sources.splits import (
    SplitBy,
)
from detflow.data.sources.voc.source import VOC
from detflow.errors import ConfigError
from detflow.storage.folders import LocalFolder


def declared(voc_set, split_by=SplitBy.AUTO):
    files = find_files(LocalFolder.of(voc_set.root), VOC)
    return declared_splits(files, files.annotations, {}, split_by)


def add_annotations(voc_set, *paths):
    for path in paths:
        voc_set.write(path, "<annotation/>")


def codes(splits):
    return [(finding.code, finding.path, finding.line) for finding in splits.findings]


def test_lists_and_their_union(voc_set):
    add_annotations(voc_set, *(f"VOC/Annotations/{name}.xml" for name in "abcd"))
    voc_set.write("VOC/ImageSets/Main/train.txt", "a\nb\n")
    voc_set.write("VOC/ImageSets/Main/val.txt", "\ufeffc.jpg\r\n\r\n")
    voc_set.write("VOC/ImageSets/Main/trainval.txt", "c\na\nb")
    voc_set.write("VOC/ImageSets/Main/cat_train.txt", "a  1\nb -1\n")
    splits = declared(voc_set)
    assert splits.rule is SplitBy.LISTS
    assert splits.members == {
        "train": ("VOC/Annotations/a.xml", "VOC/Annotations/b.xml"),
        "val": ("VOC/Annotations/c.xml",),
    }
    assert splits.unions == {"trainval": ("train", "val")}
    assert codes(splits) == [("split_unassigned", "VOC/Annotations/d.xml", None)]


def test_entries_may_be_paths_and_faults_are_named(voc_set):
    add_annotations(voc_set, "ann/one/a.xml", "ann/two/a.xml", "ann/b.xml")
    voc_set.write("train.txt", "./one/a.jpg\nann/b.xml\nann/b.xml\nnowhere\n")
    voc_set.write("test.txt", "two\\a.jpg\nb\n")
    splits = declared(voc_set)
    assert splits.members == {
        "train": ("ann/b.xml", "ann/one/a.xml"),
        "test": ("ann/b.xml", "ann/two/a.xml"),
    }
    assert codes(splits) == [
        ("split_entry_twice", "train.txt", 3),
        ("split_entry_missing", "train.txt", 4),
        ("split_leak", "test.txt", None),
    ]


def test_two_voc_roots_have_their_own_lists(voc_set):
    for year in ("VOC2007", "VOC2012"):
        add_annotations(voc_set, f"{year}/Annotations/a.xml", f"{year}/Annotations/b.xml")
        voc_set.write(f"{year}/ImageSets/Main/train.txt", "a\n")
        voc_set.write(f"{year}/ImageSets/Main/val.txt", "b\n")
    splits = declared(voc_set)
    assert splits.members["train"] == ("VOC2007/Annotations/a.xml", "VOC2012/Annotations/a.xml")
    assert splits.findings == ()


def test_lists_in_a_folder_of_their_own_are_about_what_lies_beside_it(voc_set):
    add_annotations(voc_set, "set/xml/a.xml", "set/xml/b.xml", "other/a.xml")
    voc_set.write("set/splits/train.txt", "a\n")
    voc_set.write("set/splits/val.txt", "b\n")
    assert declared(voc_set).members == {"train": ("set/xml/a.xml",), "val": ("set/xml/b.xml",)}


def test_trainval_that_only_repeats_train_is_no_leak(voc_set):
    add_annotations(voc_set, "a.xml", "b.xml")
    voc_set.write("ImageSets/Main/train.txt", "a\n")
    voc_set.write("ImageSets/Main/trainval.txt", "a\n")
    voc_set.write("ImageSets/Main/test.txt", "b\n")
    splits = declared(voc_set)
    assert splits.unions == {"trainval": ("train",)}
    assert (list(splits.members), splits.findings) == (["train", "test"], ())


@pytest.mark.parametrize(
    "lists",
    [
        {"train.txt": "a b  1\nb -1\n", "val.txt": "c  0\n"},
        {
            "cat_train.txt": "a b.jpg 1\nb.jpg -1\n",
            "cat_val.txt": "c.jpg 1\n",
            "dog_train.txt": "a b.jpg -1\nb.jpg 1\n",
        },
    ],
    ids=["flags", "VoTT"],
)
def test_lists_with_a_flag_for_a_class_declare_splits_where_no_others_do(voc_set, lists):
    add_annotations(voc_set, "Annotations/a b.xml", "Annotations/b.xml", "Annotations/c.xml")
    for name, content in lists.items():
        voc_set.write(f"ImageSets/Main/{name}", content)
    splits = declared(voc_set)
    assert splits.members == {
        "train": ("Annotations/a b.xml", "Annotations/b.xml"),
        "val": ("Annotations/c.xml",),
    }
    assert splits.findings == ()


def test_columns_behind_a_name_are_passed_over(voc_set):
    add_annotations(voc_set, "a.xml", "b 1.xml", "b.xml", "c.xml")
    voc_set.write("trainval.txt", "a 1 1 2\nb 1\n")
    voc_set.write(
        "test.txt", "./images/b.jpg 10,20,30,40,0 1,2,3,4,1\r\n/home/me/images/c.jpg -1\r\n"
    )
    splits = declared(voc_set)
    assert splits.members == {"test": ("b.xml", "c.xml"), "trainval": ("a.xml", "b 1.xml")}
    assert splits.findings == ()


def test_folders_of_the_images_count_where_the_annotations_have_none(voc_set):
    add_annotations(voc_set, "xml/a.xml", "xml/b.xml")
    files = find_files(LocalFolder.of(voc_set.root), VOC)
    pairs = {"xml/a.xml": "images/train/a.jpg", "xml/b.xml": "images/val/b.jpg"}
    splits = declared_splits(files, files.annotations, pairs, SplitBy.AUTO)
    assert splits.members == {"train": ("xml/a.xml",), "val": ("xml/b.xml",)}


def test_folders(voc_set):
    add_annotations(voc_set, "Train/annots/a.xml", "valid/annots/b.xml", "other/c.xml")
    splits = declared(voc_set)
    assert splits.rule is SplitBy.FOLDERS
    assert splits.members == {"train": ("Train/annots/a.xml",), "valid": ("valid/annots/b.xml",)}
    assert codes(splits) == [("split_unassigned", "other/c.xml", None)]


def test_one_list_or_folder_divides_nothing_unless_asked(voc_set):
    add_annotations(voc_set, "train/a.xml", "train/b.xml")
    voc_set.write("ImageSets/Main/default.txt", "a\nb\n")
    assert declared(voc_set) is None
    assert declared(voc_set, SplitBy.SEED) is None
    assert declared(voc_set, SplitBy.FOLDERS).members == {"train": ("train/a.xml", "train/b.xml")}
    assert declared(voc_set, SplitBy.LISTS).members == {"default": ("train/a.xml", "train/b.xml")}


@pytest.mark.parametrize("split_by", [SplitBy.LISTS, SplitBy.FOLDERS])
def test_asking_for_what_is_not_declared_is_an_error(voc_set, split_by):
    add_annotations(voc_set, "a.xml")
    with pytest.raises(ConfigError, match="declares no splits"):
        declared(voc_set, split_by)


def draw_lists(voc_set, folder, **lists):
    """Ten annotations, `0` to `9`, and lists that name some of them by their digits."""
    add_annotations(voc_set, *(f"Annotations/{digit}.xml" for digit in "0123456789"))
    for name, content in lists.items():
        lines = content if "\n" in content else "\n".join(content)
        voc_set.write(f"{folder}/{name}.txt".removeprefix("/"), lines)


def places(splits):
    return {
        name: "".join(path[len("Annotations/")] for path in members)
        for name, members in splits.members.items()
    }


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("ImageSets/main", ("train", "val")),
        ("imagesets/MAIN", ("Train", "VAL")),
        ("ImageSets/DET", ("train", "val")),
        ("ImageSets", ("train", "val")),
        ("Image Sets/Main/2012", ("train_list", "val_list")),
        ("", ("train_list", "val_list")),
        ("", ("2007_train", "2007_val")),
        ("lists", ("trainlist01", "validation_x")),
        ("lists", ("TRAIN", "list of the test")),
    ],
)
def test_lists_under_the_names_that_tools_give_them(voc_set, folder, names):
    draw_lists(voc_set, folder, **dict(zip(names, ("012345", "6789"), strict=True)))
    splits = declared(voc_set)
    assert splits.rule is SplitBy.LISTS
    assert list(places(splits).values()) == ["012345", "6789"]
    assert {"train"} < splits.members.keys() <= {"train", "val", "validation", "test"}
    assert splits.findings == ()


def test_a_list_under_image_sets_that_names_nothing_is_refused_in_one_line(voc_set):
    draw_lists(voc_set, "ImageSets/Main", train="xyz", val="6789")
    splits = declared(voc_set)
    assert (splits.rule, splits.members) == (SplitBy.SEED, {})
    (finding,) = splits.findings
    assert (finding.code, finding.path) == ("split_unusable", "ImageSets/Main/train.txt")
    assert finding.value == "none of its 3 entries is known; the first, in line 1, is 'x'"
    assert declared(voc_set, SplitBy.SEED) is None


def test_a_stale_list_is_refused_beside_good_ones_wherever_it_lies(voc_set):
    draw_lists(voc_set, "", train="012", val="345", test="xyz")
    splits = declared(voc_set)
    assert list(splits.members) == ["train", "val"]
    assert codes(splits)[0] == ("split_unusable", "test.txt", None)


def test_stale_lists_alone_are_named(voc_set):
    draw_lists(voc_set, "", train="xyz", val="uvw")
    assert codes(declared(voc_set)) == [
        ("split_unused", "train.txt", None),
        ("split_unused", "val.txt", None),
    ]
    with pytest.raises(ConfigError, match=r"by lists: train\.txt: none of its 3 entries is known"):
        declared(voc_set, SplitBy.LISTS)


def test_text_that_only_sounds_like_a_list_is_named_and_refuses_nothing(voc_set):
    draw_lists(voc_set, "", train="012345", val="6789", test_results="precision 0.5\nrecall 1\n")
    splits = declared(voc_set)
    assert places(splits) == {"train": "012345", "val": "6789"}
    assert codes(splits) == [("split_unused", "test_results.txt", None)]


@pytest.mark.parametrize(
    ("folder", "name", "code"),
    [
        ("ImageSets/Main", "default", "split_unusable"),
        ("", "test", "split_unusable"),
        ("", "test_list", "split_unusable"),
    ],
)
def test_one_list_of_a_part_is_not_left_to_the_seed(voc_set, folder, name, code):
    draw_lists(voc_set, folder, **{name: "012"})
    (finding,) = declared(voc_set).findings
    assert finding.code == code
    assert finding.value == "it names 3 of 10 annotations, and no other list the rest"


def test_folders_divide_what_one_list_leaves_open(voc_set):
    add_annotations(voc_set, "train/a.xml", "train/b.xml", "test/c.xml")
    voc_set.write("test.txt", "c")
    splits = declared(voc_set)
    assert splits.rule is SplitBy.FOLDERS
    assert codes(splits) == [("split_unused", "test.txt", None)]


def test_an_empty_list_is_named(voc_set):
    draw_lists(voc_set, "ImageSets/Main", train="01234", val="56789", test="\n")
    splits = declared(voc_set)
    assert list(splits.members) == ["train", "val"]
    assert codes(splits) == [("split_empty", "ImageSets/Main/test.txt", None)]


def test_lists_of_another_task_are_named_where_no_others_are(voc_set):
    draw_lists(voc_set, "ImageSets/Segmentation", train="012", val="345")
    (finding,) = declared(voc_set).findings
    assert (finding.code, finding.path) == ("split_unused", "ImageSets/Segmentation")
    draw_lists(voc_set, "ImageSets/Main", train="01234", val="56789")
    assert declared(voc_set).findings == ()


def test_a_part_of_a_list_under_a_longer_name_changes_nothing(voc_set):
    draw_lists(voc_set, "", train="01234", val="56789", train_small="01", val_new="901")
    splits = declared(voc_set)
    assert places(splits) == {"train": "01234", "val": "56789"}
    assert codes(splits) == [("split_unused", "val_new.txt", None)]


def test_the_same_list_in_two_places_is_one(voc_set):
    draw_lists(voc_set, "ImageSets/Main", train="01234", val="56789")
    draw_lists(voc_set, "", train="01234", val="56789")
    assert declared(voc_set).findings == ()


def test_all_and_trainval_are_unions_whatever_overlaps(voc_set):
    lists = {"train": "01234", "val": "456", "trainval": "0123456", "test": "789"}
    draw_lists(voc_set, "ImageSets/Main", **lists, all="0123456789")
    splits = declared(voc_set)
    assert splits.unions == {"all": ("train", "val", "test"), "trainval": ("train", "val")}
    (finding,) = splits.findings
    assert (finding.code, finding.path) == ("split_leak", "ImageSets/Main/val.txt")
    assert finding.value == "1 annotation in both train and val: Annotations/4.xml"


def test_what_only_a_union_names_is_set_aside(voc_set):
    draw_lists(voc_set, "ImageSets/Main", train="0123", val="456", test="78", all="0123456789")
    (finding,) = declared(voc_set).findings
    assert (finding.code, finding.path) == ("split_unassigned", "Annotations/9.xml")
    assert finding.value == "only in ImageSets/Main/all.txt"


def test_a_list_that_leads_out_of_the_dataset_is_refused(voc_set, tmp_path):
    draw_lists(voc_set, "ImageSets/Main", val="56789")
    (tmp_path / "train.txt").write_text("0\n")
    (voc_set.root / "ImageSets/Main/train.txt").symlink_to(tmp_path / "train.txt")
    files = find_files(LocalFolder.of(voc_set.root), VOC)
    assert [(one.code, one.path) for one in files.findings] == [
        ("link_outside", "ImageSets/Main/train.txt")
    ]
