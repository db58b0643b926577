from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from detflow.data.rules import Action
from detflow.data.sources.candidates import fold, nearness
from detflow.data.sources.evidence import HeaderSize
from detflow.data.sources.names import split_extension
from detflow.data.sources.own_images import claims_own_image, find_own_images
from detflow.data.sources.pairing import pair_images
from detflow.data.sources.source import ImageNames


class Facts:
    """What the files of a test say; a size that is asked for and not given is unknown."""

    def __init__(self, sizes=None, digests=None):
        self.sizes = sizes or {}
        self.digests = digests or {}
        self.asked = []

    def read_sizes(self, images):
        self.asked += images
        return {
            image: HeaderSize(*self.sizes[image], False) for image in images if image in self.sizes
        }

    def read_digests(self, files):
        return {file: self.digests.get(file, file).encode() for file in files}


def claim(filename=None, source_path=None, folder=None, size=None, has_own_name=True):
    return filename, source_path, folder, size, has_own_name


def pair(claims, images, facts=None, unreadable=()):
    """Pairs, and returns the images and what was found."""
    claims = {
        name: (value if isinstance(value, tuple) and len(value) == 5 else claim(*value))
        for name, value in claims.items()
    }
    pairs = pair_images(claims, images, facts or Facts(), unreadable=unreadable)
    return dict(pairs.images), [
        (finding.code, finding.path, finding.related) for finding in pairs.findings
    ]


@pytest.mark.parametrize(
    ("annotation", "filename", "source_path", "images", "code"),
    [
        ("ann/a.xml", "a.jpg", None, ["img/a.jpg"], None),
        ("ann/a.xml", "b.jpg", None, ["img/b.jpg"], None),
        ("ann/a.xml", "A.JPG", None, ["img/a.jpg"], "paired_by_case"),
        ("ann/a.xml", "Ärger.jpg", None, ["img/A\u0308rger.jpg"], "paired_by_case"),
        ("ann/a.xml", "a", None, ["img/a.jpg"], "paired_by_extension"),
        ("ann/a.xml", "a.jpeg", None, ["img/a.png"], "paired_by_extension"),
        ("ann/x.xml", "a.mp4#t=10", None, ["img/a.mp4#t=10.jpg"], "paired_by_extension"),
        ("ann/x.xml", "gone.jpg", r"C:\me\img\b.jpg", ["img/b.jpg"], "paired_by_path"),
        ("ann/x.xml", "gone.jpg", "/home/me/b.png", ["img/b.jpg"], "paired_by_path"),
        ("ann/a.xml", "gone.jpg", "/home/me/gone.jpg", ["img/a.jpg"], "paired_by_stem"),
        ("ann/a.xml", None, None, ["img/a.jpg"], "paired_by_stem"),
        ("ann/a.jpg.xml", None, None, ["img/a.jpg"], "paired_by_stem"),
        ("ann/a.xml", r"C:\me\a.jpg", None, ["img/a.jpg"], None),
        ("ann/a.xml", "img/a.jpg", None, ["img/a.jpg", "thumbs/a.jpg"], None),
        ("train/ann/a.xml", "a.jpg", None, ["train/img/a.jpg", "valid/img/a.jpg"], None),
        ("ann/train/a.xml", "a.jpg", None, ["img/train/a.jpg", "img/val/a.jpg"], None),
        ("ann/a.xml", "a.jpg", None, ["img/a.jpg", "img/thumbs/a.jpg"], None),
        ("a.xml", "a.jpg", None, ["a.jpg"], None),
        ("ann/a.xml", "a.jpg", None, ["img/a.jpg", "img/a.png"], None),
        ("ann/a.xml", "a", None, ["img/a"], None),
        ("ann/a.xml", "gone", None, ["img/a.dat"], "paired_by_stem"),
    ],
)
def test_one_image_is_found(annotation, filename, source_path, images, code):
    pairs, findings = pair({annotation: (filename, source_path)}, images)
    assert pairs == {annotation: images[0]}
    assert [found for found, path, _ in findings if path == annotation] == ([code] if code else [])


@pytest.mark.parametrize(
    ("filename", "images", "code"),
    [
        ("b.jpg", ["img/c.jpg"], "image_missing"),
        (None, [], "image_missing"),
        ("a", ["img/a.jpg", "img/a.png"], "image_ambiguous"),
        ("a.jpg", ["one/a.jpg", "two/a.jpg"], "image_ambiguous"),
        ("A.jpg", ["img/a.JPG", "img/a.jpg"], "image_ambiguous"),
    ],
)
def test_nothing_is_guessed(filename, images, code):
    pairs, findings = pair({"ann/a.xml": (filename, None)}, images)
    assert pairs == {}
    found = [(found, related) for found, path, related in findings if path == "ann/a.xml"]
    assert found == [(code, tuple(images) if code == "image_ambiguous" else ())]


@pytest.mark.parametrize(
    "filename",
    [
        "../a.jpg",
        "x/../a.jpg",
        "..",
        r"..\a.jpg",
        # A backslash of Shift_JIS and of EUC-KR, as XML parsers read it.
        "..¥a.jpg",
        "x₩..₩a.jpg",
        "/etc/passwd",
        "/a.jpg",
        "//host/a.jpg",
        "a\0.jpg",
        "img/..\\..\\a.jpg",
    ],
)
def test_a_name_that_leaves_the_dataset_is_refused(filename):
    pairs, findings = pair({"ann/a.xml": (filename, None)}, ["img/a.jpg"])
    assert pairs == {}
    assert findings[0][:2] == ("path_unsafe", "ann/a.xml")


def test_a_stale_name_does_not_take_anothers_image():
    names = {"ann/a.xml": ("b.jpg", None), "ann/b.xml": ("b.jpg", None)}
    pairs, findings = pair(names, ["img/b.jpg"])
    assert pairs == {"ann/b.xml": "img/b.jpg"}
    assert findings == [("image_claimed_twice", "ann/a.xml", ("img/b.jpg", "ann/b.xml"))]
    pairs, findings = pair(names, ["img/a.jpg", "img/b.jpg"])
    assert pairs == {"ann/a.xml": "img/a.jpg", "ann/b.xml": "img/b.jpg"}
    assert findings == [("claim_stale", "ann/a.xml", ("img/a.jpg", "img/b.jpg"))]


def test_pictures_that_were_renumbered_keep_their_annotations():
    numbers = range(8)
    claims = {f"ann/{k}.xml": (f"{(k + 1) % 8}.jpg",) for k in numbers}
    pairs, findings = pair(claims, [f"img/{k}.jpg" for k in numbers])
    assert pairs == {f"ann/{k}.xml": f"img/{k}.jpg" for k in numbers}
    assert [code for code, _, _ in findings] == ["claim_stale"] * 8


def test_the_last_one_of_renumbered_pictures_stays_open():
    claims = {f"ann/{k}.xml": (f"{k + 1}.jpg",) for k in range(4)}
    pairs, findings = pair(claims, [f"img/{k}.jpg" for k in range(5)])
    assert pairs == {f"ann/{k}.xml": f"img/{k}.jpg" for k in range(3)}
    assert findings[-1] == ("image_ambiguous", "ann/3.xml", ("img/3.jpg", "img/4.jpg"))


def test_names_that_cross_the_splits_are_stale():
    other = {"train": "test", "test": "train"}
    claims = {
        f"{split}/{split}{k}.xml": (f"{other[split]}{k}.jpg",) for split in other for k in (1, 2)
    }
    pairs, findings = pair(claims, [name.replace(".xml", ".jpg") for name in claims])
    assert pairs == {name: name.replace(".xml", ".jpg") for name in claims}
    assert [code for code, _, _ in findings] == ["claim_stale"] * 4


@pytest.mark.parametrize("folder", [True, False])
def test_folders_that_cross_the_splits_are_stale(folder):
    claims = {
        "train/1.xml": ("1.jpg", "C:\\x\\test\\1.jpg", "test" if folder else None),
        "test/1.xml": ("1.jpg", None, "train" if folder else None),
    }
    pairs, findings = pair(claims, ["train/1.jpg", "test/1.jpg"])
    assert pairs == {"train/1.xml": "train/1.jpg", "test/1.xml": "test/1.jpg"}
    stale = ["test/1.xml", "train/1.xml"] if folder else ["train/1.xml"]
    assert [(code, path) for code, path, _ in findings] == [("claim_stale", one) for one in stale]


@pytest.mark.parametrize("filename", ["0.jpg", "template.jpg", "gone.jpg"])
def test_one_name_in_all_annotations_says_nothing(filename):
    claims = {f"ann/{k}.xml": (filename,) for k in range(4)}
    images = [f"img/{k}.jpg" for k in range(4)]
    pairs, findings = pair(claims, [*images, "img/template.jpg"])
    assert list(pairs.values()) == images
    code = "paired_by_stem" if filename == "gone.jpg" else "claim_stale"
    assert {found for found, path, _ in findings if path in claims} == {code}
    assert len([path for _, path, _ in findings if path in claims]) == 4 - (filename == "0.jpg")


def test_a_file_name_that_nobody_else_has_goes_before_the_own_name():
    pairs, findings = pair({"ann/a.xml": ("b.jpg",)}, ["img/a.jpg", "img/b.jpg"])
    assert pairs == {"ann/a.xml": "img/b.jpg"}
    assert findings[0] == ("paired_by_filename", "ann/a.xml", ("img/b.jpg", "img/a.jpg"))


@pytest.mark.parametrize(
    ("sizes", "image", "code"),
    [
        (((64, 48), (64, 48)), "img/b.jpg", "paired_by_filename"),
        (((64, 48), (9, 9)), "img/a.jpg", "claim_stale"),
        (((9, 9), (64, 48)), "img/b.jpg", "paired_by_filename"),
    ],
)
def test_the_size_decides_between_file_name_and_own_name(sizes, image, code):
    facts = Facts(dict(zip(["img/a.jpg", "img/b.jpg"], sizes, strict=True)))
    claims = {"ann/a.xml": claim("b.jpg", size=(64, 48))}
    pairs, findings = pair(claims, ["img/a.jpg", "img/b.jpg"], facts)
    assert pairs == {"ann/a.xml": image}
    assert findings[0][:2] == (code, "ann/a.xml")


def test_a_size_that_fits_only_anothers_image_leaves_it_open():
    facts = Facts({"img/a.jpg": (9, 9), "img/b.jpg": (64, 48)})
    claims = {"ann/a.xml": claim("b.jpg", size=(64, 48)), "ann/b.xml": claim("b.jpg")}
    pairs, findings = pair(claims, ["img/a.jpg", "img/b.jpg"], facts)
    assert pairs == {"ann/b.xml": "img/b.jpg"}
    assert findings[0] == ("image_ambiguous", "ann/a.xml", ("img/a.jpg", "img/b.jpg"))


def test_an_image_whose_own_annotation_is_broken_goes_to_nobody():
    pairs, findings = pair({"ann/x.xml": ("b.jpg",)}, ["img/b.jpg"], unreadable=["ann/b.xml"])
    assert pairs == {}
    assert findings == [("image_claimed_twice", "ann/x.xml", ("img/b.jpg", "ann/b.xml"))]


def test_what_is_left_when_the_others_name_is_stale_is_left_open():
    claims = {"ann/a.xml": ("b.jpg",), "ann/x.xml": ("b.jpg",)}
    pairs, findings = pair(claims, ["img/a.jpg", "img/b.jpg"])
    assert pairs == {"ann/a.xml": "img/a.jpg"}
    assert findings[1] == ("image_claimed_twice", "ann/x.xml", ("img/b.jpg", "ann/a.xml"))


def test_an_annotation_of_a_large_file_has_no_name_of_its_own():
    claims = {
        "coco.json#a": claim("b.jpg", has_own_name=False),
        "coco.json#b": claim("a.jpg", has_own_name=False),
    }
    pairs, findings = pair(claims, ["img/a.jpg", "img/b.jpg", "coco.json#a.jpg"])
    assert pairs == {"coco.json#a": "img/b.jpg", "coco.json#b": "img/a.jpg"}
    assert findings == [("image_unlabelled", "coco.json#a.jpg", ())]


@pytest.mark.parametrize(
    ("annotation", "claimed", "images"),
    [
        # VOC's folders, as labelme2voc writes them.
        (
            "Annotations/a.xml",
            ("a.jpg",),
            ["JPEGImages/a.jpg", "AnnotationsVisualization/a.jpg", "images/a.jpg"],
        ),
        ("VOC/Annotations/a.xml", ("a.jpg",), ["VOC/JPEGImages/a.jpg", "VOC/x/a.jpg", "a.jpg"]),
        ("a_xml/0.xml", ("0.jpg",), ["images/a/0.jpg", "images/b/0.jpg"]),
        ("train_annotations/0.xml", ("0.jpg",), ["train_images/0.jpg", "test_images/0.jpg"]),
        ("set/xmls2/0.xml", ("0.jpg",), ["set/imgs2/0.jpg", "set/imgs1/0.jpg"]),
        ("p/0.xml", ("0.jpg", "C:\\d\\images\\a\\0.jpg"), ["images/a/0.jpg", "images/b/0.jpg"]),
        ("p/0.xml", ("0.jpg", None, "a"), ["images/a/0.jpg", "images/b/0.jpg"]),
        ("p/0.xml", ("a/0.jpg",), ["images/a/0.jpg", "images/b/0.jpg"]),
        ("p/0.xml", ("A\\0.jpg",), ["images/a/0.jpg", "images/b/0.jpg"]),
        ("p/0.xml", (None, "/d/a/0.jpg"), ["images/a/0.jpg", "images/b/0.jpg"]),
        ("ann/a.xml", ("a",), ["img/a.jpg", "img/a.jpg_original", "img/a.CR2"]),
        ("ann/a.xml", ("a.JPEG",), ["img/a.jpg", "img/a.png"]),
        ("ann/a.xml", ("a.jpg",), ["img/a.jpg", "img/masks/a.png", "thumbs/a.jpg"]),
        ("ann/a.xml", (None,), ["img/a.jpg", "masks/a.png", "backup/img/a.jpg"]),
        ("mask/ann/a.xml", ("a.jpg",), ["mask/img/a.jpg", "thumbs/a.jpg"]),
    ],
)
def test_folders_and_paths_tell_images_of_one_name_apart(annotation, claimed, images):
    pairs, findings = pair({annotation: claimed}, images)
    assert pairs == {annotation: images[0]}
    contradicted = {code for code, path, _ in findings if path == annotation}
    assert contradicted <= {"paired_by_extension", "paired_by_path", "paired_by_stem"}


def test_renditions_are_not_said_to_lack_an_annotation():
    images = ["img/a.jpg", "img/a.jpg_original", "thumbs/a.jpg", "thumbs/other.jpg"]
    _, findings = pair({"ann/a.xml": ("a.jpg",)}, images)
    assert [path for _, path, _ in findings] == ["thumbs/other.jpg"]


def test_a_mask_never_stands_in_for_a_missing_image():
    claims = {f"ann/{name}.xml": (f"{name}.jpg",) for name in "abcdef"}
    images = [f"img/{name}.jpg" for name in "abcde"]
    pairs, findings = pair(claims, [*images, "masks/f.png"])
    assert list(pairs.values()) == images
    assert findings == [("image_missing", "ann/f.xml", ("masks/f.png",))]


@pytest.mark.parametrize(
    ("sizes", "image"),
    [
        ({"other/f.jpg": (9, 9)}, None),
        ({"other/f.jpg": (64, 48)}, "other/f.jpg"),
        ({}, "other/f.jpg"),
    ],
)
def test_an_image_in_an_unrelated_folder_with_another_size_is_no_partner(sizes, image):
    claims = {f"ann/{name}.xml": claim(f"{name}.jpg", size=(64, 48)) for name in "abcdef"}
    images = [f"img/{name}.jpg" for name in "abcde"]
    facts = Facts(sizes)
    pairs, findings = pair(claims, [*images, "other/f.jpg"], facts)
    assert pairs.get("ann/f.xml") == image
    assert findings == ([] if image else [("image_missing", "ann/f.xml", ("other/f.jpg",))])
    assert facts.asked == ["other/f.jpg"]


def test_the_size_tells_images_of_one_name_apart():
    images = ["one/a.jpg", "two/a.jpg", "one/b.jpg", "two/b.jpg"]
    sizes = {"one/a.jpg": (9, 9), "two/a.jpg": (64, 48), "one/b.jpg": (9, 9), "two/b.jpg": (9, 9)}
    claims = {f"p/{name}.xml": claim(f"{name}.jpg", size=(64, 48)) for name in "ab"}
    pairs, findings = pair(claims, images, Facts(sizes))
    assert pairs == {"p/a.xml": "two/a.jpg"}
    assert findings[:2] == [
        ("paired_by_size", "p/a.xml", ("two/a.jpg", "one/a.jpg")),
        ("image_ambiguous", "p/b.xml", ("one/b.jpg", "two/b.jpg")),
    ]


def test_a_near_image_of_another_size_leaves_it_open_where_a_far_one_fits():
    sizes = {"images/a.jpg": (9, 9), "hires/a.jpg": (64, 48)}
    images = list(sizes)
    pairs, findings = pair({"xml/a.xml": claim("a.jpg", size=(64, 48))}, images, Facts(sizes))
    assert pairs == {}
    assert findings[0] == ("image_ambiguous", "xml/a.xml", ("images/a.jpg", "hires/a.jpg"))
    claims = {"xml/a.xml": claim("a.jpg", "/d/hires/a.jpg", size=(64, 48))}
    pairs, findings = pair(claims, images, Facts(sizes))
    assert pairs == {"xml/a.xml": "hires/a.jpg"}
    assert findings[0] == ("paired_by_size", "xml/a.xml", ("hires/a.jpg", "images/a.jpg"))


def test_of_copies_of_an_image_either_is_right():
    facts = Facts(digests={"two/y/a.jpg": "same", "one/x/a.jpg": "same"})
    pairs, findings = pair({"p/a.xml": ("a.jpg",)}, ["two/y/a.jpg", "one/x/a.jpg"], facts)
    assert pairs == {"p/a.xml": "one/x/a.jpg"}
    assert findings == [("image_copies", "p/a.xml", ("one/x/a.jpg", "two/y/a.jpg"))]


@pytest.mark.parametrize(
    "copy", ["annotations_backup/a.xml", "Annotations - Copy/a.xml", "annotations/a - Copy.xml"]
)
def test_a_copy_of_an_annotation_is_in_no_count(copy):
    facts = Facts(digests={"annotations/a.xml": "same", copy: "same"})
    names = {"annotations/a.xml": claim("a.jpg"), copy: claim("a.jpg")}
    pairs = pair_images(names, ["images/a.jpg"], facts)
    assert pairs.images == {"annotations/a.xml": "images/a.jpg"}
    assert pairs.copies == {copy}
    [finding] = pairs.findings
    assert (finding.code, finding.path, finding.related) == (
        "annotation_copy",
        copy,
        ("annotations/a.xml",),
    )


def test_a_backup_with_other_content_does_not_take_the_image():
    names = {"annotations/a.xml": ("a.jpg",), "annotations_backup/a.xml": ("a.jpg",)}
    pairs, findings = pair(names, ["images/a.jpg"])
    assert pairs == {"annotations/a.xml": "images/a.jpg"}
    assert [(code, path) for code, path, _ in findings] == [
        ("image_claimed_twice", "annotations_backup/a.xml")
    ]


def test_a_path_that_names_another_image_is_found():
    names = {"ann/a.xml": ("a.jpg", "/d/b.jpg"), "ann/b.xml": ("b.jpg", "/d/gone.jpg")}
    images = ["img/a.jpg", "img/b.jpg"]
    pairs, findings = pair(names, images)
    assert list(pairs.values()) == images
    assert findings == [("claim_stale", "ann/a.xml", ("img/a.jpg", "img/b.jpg"))]


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("annotations/instances_train2017.json", "images/train2017/0.jpg"),
        ("annotations/instances_val2017.json", "images/val2017/0.jpg"),
        ("train_labels.csv", "images/train/0.jpg"),
        ("images/val2017/_annotations.coco.json", "images/val2017/0.jpg"),
    ],
)
def test_a_file_of_many_annotations_says_by_its_name_what_it_is_about(file, image):
    folders = ("train", "train2017", "val2017", "val")
    claims = {f"{file}#1": claim("0.jpg", has_own_name=False)}
    pairs, findings = pair(claims, [f"images/{folder}/0.jpg" for folder in folders])
    assert pairs == {f"{file}#1": image}
    assert {code for code, _, _ in findings} == {"image_unlabelled"}


def test_a_dialect_without_names_of_images_needs_no_finding():
    images = ["images/train/0.jpg", "images/val/0.jpg"]
    claims = {f"labels/{split}/0.txt": claim() for split in ("train", "val")}
    pairs = pair_images(claims, images, Facts(), by_own_name=True)
    assert list(pairs.images.values()) == images
    assert pairs.findings == ()


def test_many_images_of_one_name_are_not_compared_one_by_one():
    folders = [f"seq{k}" for k in range(300)]
    images = [f"{folder}/pictures/0.jpg" for folder in folders]
    claims = {f"{folder}/marks/0.xml": ("0.jpg",) for folder in folders}
    pairs, findings = pair(claims, images)
    assert list(pairs.values()) == images
    assert findings == []
    pairs, findings = pair({"0.xml": ("0.jpg",)}, images)
    assert pairs == {}
    assert findings[0][0] == "image_ambiguous"
    assert len(findings[0][2]) == 20


def test_two_equal_claims_cancel_each_other():
    names = {"one/a.xml": ("a.jpg", None), "two/a.xml": ("a.jpg", None)}
    pairs, findings = pair(names, ["img/a.jpg"])
    assert pairs == {}
    assert [found for found, _, _ in findings] == ["image_claimed_twice"] * 2


def test_images_without_an_annotation_are_listed():
    _, findings = pair({"ann/a.xml": ("a.jpg", None)}, ["img/a.jpg", "img/b.jpg"])
    assert findings == [("image_unlabelled", "img/b.jpg", ())]


def test_an_image_of_an_unreadable_annotation_is_not_unlabelled():
    _, findings = pair({}, ["img/a.jpg", "img/b.jpg"], unreadable=["ann/A.xml"])
    assert findings == [("image_unlabelled", "img/b.jpg", ())]


STEMS = st.sampled_from(["a", "A", "b", "a.b", "c.jpg", "\u00e4", "a\u0308", ""])
FOLDERS = st.sampled_from(["", "x/", "y/", "x/z/", "masks/", "images/", "annotations/"])
SUFFIXES = st.sampled_from([".jpg", ".JPG", ".png", ".dat", ""])
IMAGES = st.builds(lambda *parts: "".join(parts), FOLDERS, STEMS.filter(bool), SUFFIXES)
WRITTEN = (
    st.none()
    | IMAGES
    | st.sampled_from(["../a.jpg", "/a.jpg", "C:\\\\d\\\\a.jpg", ".", "gone.jpg"])
)
SIDES = (64, 48), "p"
SIZES = st.sampled_from([(64, 48), (48, 64)])
CLAIMS = st.dictionaries(
    st.builds(lambda *parts: "".join(parts), FOLDERS, STEMS, st.sampled_from([".xml", ".XML"])),
    st.tuples(
        WRITTEN, WRITTEN, st.sampled_from([None, "x", "z", "y/x"]), st.none() | SIZES, st.booleans()
    ),
    max_size=6,
)
SETS = st.tuples(
    CLAIMS, st.dictionaries(IMAGES, st.tuples(SIZES, st.sampled_from("pq")), max_size=6)
)


def facts_of(claims, images):
    """Facts of drawn files: of all images one byte string or another, of all annotations one."""
    digests = {image: content for image, (_, content) in images.items()}
    return Facts(
        {image: size for image, (size, _) in images.items()}, digests | dict.fromkeys(claims, "r")
    )


@given(SETS, st.randoms())
def test_pairs_do_not_depend_on_the_order_of_files(drawn, random):
    claims, images = drawn
    facts = facts_of(claims, images)
    pairs = pair_images(claims, list(images), facts)
    mixed, names = list(claims.items()), list(images)
    random.shuffle(mixed)
    random.shuffle(names)
    assert pair_images(dict(mixed), names, facts) == pairs


@given(SETS)
def test_each_annotation_is_paired_or_accounted_for_and_each_image_taken_once(drawn):
    claims, images = drawn
    pairs = pair_images(claims, list(images), facts_of(claims, images))
    assert set(pairs.images.values()) <= set(images)
    assert max(Counter(pairs.images.values()).values(), default=1) == 1
    set_aside = {
        finding.path
        for finding in pairs.findings
        if finding.action in (Action.QUARANTINED, Action.REFUSED)
    }
    assert set_aside | pairs.copies | set(pairs.images) == set(claims)
    assert len(set_aside) + len(pairs.copies) + len(pairs.images) == len(claims)
    check_contradictions(claims, images, pairs)


def stem(path):
    name = path.replace("\\", "/").rpartition("/")[2]
    return fold(split_extension(name)[0])


def check_contradictions(claims, images, pairs):
    """No contradiction is without a finding."""
    mended = {finding.path for finding in pairs.findings if finding.action is Action.REPAIRED}
    stems = {stem(image) for image in images}
    for annotation, image in pairs.images.items():
        filename, source_path, _, _, has_own_name = claims[annotation]
        folder = annotation.rpartition("/")[0]
        beside = {stem(other) for other in images if other.rpartition("/")[0] == folder}
        others = {
            name
            for name, known in (
                (stem(filename or image), {stem(filename or image)}),
                (stem(source_path or image), stems),
                (stem(annotation) if has_own_name else stem(image), beside),
            )
            if name in known and name != stem(image)
        }
        assert not others or annotation in mended


@given(SETS)
@example(({"b.xml": (".", "../a.jpg", None, None, True)}, dict.fromkeys(["a.jpg", "b.jpg"], SIDES)))
def test_an_image_of_its_own_is_what_pairing_gives(drawn):
    claims, images = drawn
    claims = {name: (*claimed[:4], True) for name, claimed in claims.items()}
    facts = facts_of(claims, images)
    together = pair_images(claims, list(images), facts)
    settled = {}
    for annotation, image in find_own_images(list(claims), list(images)).items():
        *names, size, _ = claims[annotation]
        is_near = nearness(annotation.rpartition("/")[0], image).is_certain
        if claims_own_image(annotation, ImageNames(*names)) and (
            is_near or size in (None, images[image][0])
        ):
            settled[annotation] = image
    rest = {name: claimed for name, claimed in claims.items() if name not in settled}
    pairs = pair_images(rest, list(images), facts, settled)
    assert {**settled, **pairs.images} == together.images
    assert [finding for finding in pairs.findings if finding.path in rest] == [
        finding for finding in together.findings if finding.path in rest
    ]
