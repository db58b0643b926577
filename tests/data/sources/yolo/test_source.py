import pytest

from detflow.data.sources.detect import DIALECTS, open_dataset_files
from detflow.data.sources.splits import SplitBy
from detflow.data.sources.yolo.names import Scope, find_declared, read_scope
from detflow.errors import DataError
from detflow.storage.folders import LocalFolder


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [cat, 'no', on, 5]", ((0, "cat"), (1, "no"), (2, "on"), (3, "5"))),
        ("names: {0: cat, 7: dog}", ((0, "cat"), (7, "dog"))),
        ("names:\n- a  b\n", ((0, "a b"),)),
        ("nc: 3\n", None),
        ("[1, 2]", None),
        ("a: [", None),
        ("", None),
    ],
)
def test_names_of_data_yaml(text, names):
    scope = read_scope(text.encode(), "x/data.yaml")
    assert (scope.names if scope else None) == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("names: [cat", "not YAML"),
        ("names: &a [*a]", "not YAML|is not a number with a name"),
        ("names: [[1]]", "is not a number with a name"),
        ("names: ['']", "is not a number with a name"),
        ("names: {cat: 0}", "is not a number with a name"),
        ("names: " + "[\n" * 5000, "not YAML"),
        (b"names: [\xff]", "not UTF-8"),
        ("names: [a]" + " " * 2_000_001, "larger than"),
    ],
)
def test_what_names_classes_has_to_be_readable(text, reason):
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(DataError, match=reason):
        read_scope(data, "x/data.yaml")


@pytest.mark.parametrize(
    ("written", "root", "found"),
    [
        ("train/images", "", "d/train/images"),
        ("../train/images", "", "d/train/images"),
        ("images/train", "../datasets/d", "d/images/train"),
        ("images/train", ".", "d/images/train"),
        ("./images/train/", "", "d/images/train"),
        ("C:\\x\\d\\images\\train", "", "d/images/train"),
        ("/content/d/images/train", "", "d/images/train"),
        ("train.txt", "", "d/train.txt"),
        (".", "", "d"),
        ("../../../etc", "", None),
        # "images" alone may be any split's.
        ("/elsewhere/val/images", "", None),
        ("images/val", "", None),
    ],
)
def test_a_path_of_data_yaml_means_what_is_there(written, root, found):
    folders = {"", "d", "d/train", "d/train/images", "d/images", "d/images/train"}
    scope = Scope("d/data.yaml", (), root=root)
    assert find_declared(scope, written, folders, {"d/train.txt"}) == found


class Set:
    """Files of an image each, all alike."""

    def __init__(self, drawn):
        self.drawn = drawn

    def __call__(self, files):
        for path, content in files.items():
            self.drawn.write(path, content)
        return open_dataset_files(LocalFolder.of(self.drawn.root), DIALECTS["yolo"], None)


@pytest.fixture
def open_set(drawn):
    return Set(drawn)


def test_labels_are_told_from_other_texts(open_set):
    box = "0 .5 .5 .5 .5"
    _, files = open_set(
        {
            "a.jpg": b"\xff\xd8\xff",
            "a.txt": box,
            "notes.txt": box,
            "README.roboflow.txt": "x",
            "classes.txt": "cat",
            "train.txt": "a.jpg",
            "x/labels/b.txt": box,
            "x/labels/train.txt": box,
        }
    )
    assert files.annotations == ("a.txt", "x/labels/b.txt", "x/labels/train.txt")
    assert files.split_lists == ("train.txt",)
    assert [(one.code, one.path) for one in files.findings] == [("file_passed_over", "notes.txt")]


def test_each_folder_has_the_names_of_its_own_list(open_set):
    box = b"1 .5 .5 .5 .5"
    dialect, _ = open_set(
        {
            "labels/train/a.txt": box,
            "labels/train/classes.txt": "cat\ndog\n",
            "labels/val/b.txt": box,
            "labels/val/classes.txt": "dog\ncat\n",
        }
    )
    for folder, name in (("train", "dog"), ("val", "cat")):
        [raw] = dialect.read(box, f"labels/{folder}/x.txt").annotations
        assert raw.objects[0].name == name
    assert dialect.declare_classes(None) == ("cat", "dog")


def test_lists_that_contradict_are_refused(open_set):
    with pytest.raises(
        DataError, match=r"data\.yaml: it names the classes differently from labels/"
    ):
        open_set(
            {
                "labels/a.txt": "0 .5 .5 .5 .5",
                "labels/classes.txt": "dog\ncat\n",
                "labels/data.yaml": "train: x\nnames: [cat, dog]",
            }
        )


def test_the_users_classes_name_numbers_that_nothing_names(drawn):
    drawn.draw_images()
    drawn.write_yolo()
    made = drawn.make()
    assert made.manifest["classes"] == ["0", "1"]
    assert "class_names_missing" in [one["code"] for one in made.ledger]
    assert drawn.make(audit={"classes": drawn.classes}).splits == drawn.truth


def test_a_test_split_that_is_the_validation_split_is_a_union(drawn):
    drawn.draw_images()
    drawn.write_yolo()
    drawn.write(
        "data.yaml", "train: train/images\nval: val/images\ntest: val/images\nnames: [dog, cat]"
    )
    made = drawn.make()
    assert made.splits == drawn.truth
    assert made.manifest["unions"] == {"test": ["val"]}


def test_a_validation_split_that_is_the_training_split_is_a_leak(drawn, command):
    drawn.draw_images()
    drawn.write_yolo()
    drawn.write("data.yaml", "train: train/images\nval: train/images\nnames: [dog, cat]")
    done = command("check", drawn.root, "--jobs", 1)
    assert done.returncode == 3
    assert "2 × split_leak: the same image is in two splits" in done.stdout


def test_lists_of_any_name_are_read_and_stale_entries_are_named(drawn):
    drawn.draw_images("images")
    drawn.write_yolo("labels")
    drawn.write("fold1.txt", "/home/me/images/a.jpg\n./images/b.jpg\nimages/gone.jpg\n")
    drawn.write("fold2.txt", "images\\c.jpg\nimages/d.jpg\n")
    drawn.write("data.yaml", "train: fold1.txt\nval: [fold2.txt]\ntest: nowhere\nnames: [dog, cat]")
    made = drawn.make(audit={"split_by": SplitBy.LISTS})
    assert made.splits == drawn.truth
    missing = [one for one in made.ledger if one["code"] == "split_entry_missing"]
    assert [(one["path"], one.get("line"), one["value"]) for one in missing] == [
        ("fold1.txt", 3, "images/gone.jpg"),
        ("data.yaml", None, "test: nowhere"),
    ]
