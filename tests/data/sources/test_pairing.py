import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sources.pairing import find_own_images, has_own_image, pair_images


def pair(names, images):
    pairs = pair_images(names, images)
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
        ("A.jpg", ["img/a.jpg", "img/a.JPG"], "image_ambiguous"),
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
    pairs, findings = pair(names, ["img/a.jpg", "img/b.jpg"])
    assert pairs == {"ann/b.xml": "img/b.jpg"}
    assert findings[0] == ("image_claimed_twice", "ann/a.xml", ("img/b.jpg", "ann/b.xml"))


def test_two_equal_claims_cancel_each_other():
    names = {"one/a.xml": ("a.jpg", None), "two/a.xml": ("a.jpg", None)}
    pairs, findings = pair(names, ["img/a.jpg"])
    assert pairs == {}
    assert [found for found, _, _ in findings] == ["image_claimed_twice"] * 2


def test_images_without_an_annotation_are_listed():
    _, findings = pair({"ann/a.xml": ("a.jpg", None)}, ["img/a.jpg", "img/b.jpg"])
    assert findings == [("image_unlabelled", "img/b.jpg", ())]


def test_an_image_of_an_unreadable_annotation_is_not_unlabelled():
    pairs = pair_images({}, ["img/a.jpg", "img/b.jpg"], unreadable=["ann/A.xml"])
    assert [(finding.code, finding.path) for finding in pairs.findings] == [
        ("image_unlabelled", "img/b.jpg")
    ]


STEMS = st.sampled_from(["a", "A", "b", "a.b", "c.jpg", "\u00e4", "a\u0308", ""])
FOLDERS = st.sampled_from(["", "x/", "y/", "x/z/"])
SUFFIXES = st.sampled_from([".jpg", ".JPG", ".png", ".dat", ""])
IMAGES = st.builds(lambda *parts: "".join(parts), FOLDERS, STEMS.filter(bool), SUFFIXES)
WRITTEN = (
    st.none()
    | IMAGES
    | st.sampled_from(["../a.jpg", "/a.jpg", "C:\\\\d\\\\a.jpg", ".", "gone.jpg"])
)


@given(
    st.dictionaries(
        st.builds(lambda *parts: "".join(parts), FOLDERS, STEMS, st.sampled_from([".xml", ".XML"])),
        st.tuples(WRITTEN, WRITTEN),
    ),
    st.lists(IMAGES, unique=True),
)
def test_an_image_of_its_own_is_what_pairing_gives(names, images):
    own = find_own_images(list(names), images)
    pairs = pair_images(names, images).images
    for annotation, image in own.items():
        if has_own_image(annotation, names[annotation]):
            assert pairs[annotation] == image
