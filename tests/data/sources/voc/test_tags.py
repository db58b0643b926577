import math

import pytest

from detflow.data.rules import RULES, Action
from detflow.data.sources.voc.read import read_annotation

CORNERS = "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
BOX = f"<bndbox>{CORNERS}</bndbox>"
OBJECT = f"<object><name>cat</name>{BOX}</object>"


def read(text):
    """Returns the objects' names and corners, and what was found as (code, line, object, value)."""
    annotations, findings = read_annotation(text.encode(), "a.xml")
    findings = [*findings, *(entry for one in annotations for entry in one.findings)]
    found = [(entry.code, entry.line, entry.object_index, entry.value) for entry in findings]
    objects = annotations[0].objects if annotations else None
    return (
        None if objects is None else [(entry.name, entry.corners) for entry in objects],
        found,
    )


def annotation(*parts):
    return "<annotation>\n" + "\n".join(parts) + "</annotation>"


CAT = [("cat", (1.0, 2.0, 3.0, 4.0))]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (OBJECT.replace("object", "Object"), "<Object>"),
        (OBJECT.replace("object", "OBJECT"), "<OBJECT>"),
        (OBJECT.replace("object", "obj"), "<obj>"),
        (OBJECT.replace("name", "Name"), "<Name>"),
        (OBJECT.replace("bndbox", "bndBox"), "<bndBox>"),
        (OBJECT.replace("bndbox", "bbox"), "<bbox>"),
        (OBJECT.replace("bndbox", "bounding_box"), "<bounding_box>"),
        (OBJECT.replace("xmin", "xMin"), "<xMin>"),
        (OBJECT.replace("xmin", "x_min"), "<x_min>"),
        (OBJECT.replace("xmax", "XMAX"), "<XMAX>"),
        (OBJECT.replace("<object", "<v:object xmlns:v='u'").replace("/object", "/v:object"), "<v:object> in the namespace u"),  # noqa: E501
        (OBJECT.replace("<xmax", "<v:xmax xmlns:v='u'").replace("/xmax", "/v:xmax"), "<v:xmax> in the namespace u"),  # noqa: E501
        (OBJECT.replace("<object", "<object xmlns='u'"), "<object> in the namespace u"),
    ],
)  # fmt: skip
def test_a_box_under_another_name_is_read_and_named(written, value):
    objects, found = read(annotation(OBJECT.replace("cat", "dog"), written))
    assert objects == [("dog", (1.0, 2.0, 3.0, 4.0)), *CAT]
    assert found[0] == ("tag_misspelt", 3, None, value)
    assert {code for code, *_ in found} == {"tag_misspelt"}


def test_a_whole_file_in_capitals_is_read():
    size = "<SIZE><WIDTH>9</WIDTH><HEIGHT>8</HEIGHT></SIZE>"
    text = f"<ANNOTATION><FILENAME>a.jpg</FILENAME>{size}{OBJECT}</ANNOTATION>"
    for tag in ("object", "name", "bndbox", "xmin", "ymin", "xmax", "ymax"):
        text = text.replace(f"<{tag}>", f"<{tag.upper()}>").replace(
            f"</{tag}>", f"</{tag.upper()}>"
        )
    [one] = read_annotation(text.encode(), "a.xml").annotations
    assert (one.names.filename, one.size) == ("a.jpg", (9, 8))
    assert [(entry.name, entry.corners) for entry in one.objects] == CAT
    assert {entry.value for entry in one.findings} > {"<ANNOTATION>", "<OBJECT>", "<XMIN>"}


@pytest.mark.parametrize("root", ["<annotation xmlns='u'>", "<v:annotation xmlns:v='u'>"])
def test_one_namespace_for_the_whole_file_says_nothing(root):
    close = "</v:annotation>" if root.startswith("<v:") else "</annotation>"
    body = (
        OBJECT
        if close == "</annotation>"
        else OBJECT.replace("</", "</v:").replace("<", "<v:").replace("<v:/v:", "</v:")
    )
    assert read(f"{root}{body}{close}") == (CAT, [])


@pytest.mark.parametrize(
    "stray",
    [
        BOX,
        BOX.replace("bndbox", "Bndbox"),
        "<robndbox><cx>1</cx></robndbox>",
        f"<item><name>dog</name>{BOX}</item>",
        f"<region>{CORNERS}</region>",
        "<region xmin='1' ymin='2' xmax='3' ymax='4'/>",
        "<bbox>1 2 3 4</bbox>",
        f"<objects>{OBJECT}</objects>",
        f"<Objects><Object><name>dog</name>{BOX}</Object></Objects>",
        f"<source><x>{BOX}</x></source>",
        f"<folder><name>dog</name>{BOX}</folder>",
    ],
)
def test_a_box_outside_of_an_object_sets_the_file_aside(stray):
    objects, found = read(annotation(OBJECT, stray))
    assert objects is None
    code, line, _, _ = found[-1]
    assert (code, line) in (("box_astray", 3), ("object_nested", 3))


@pytest.mark.parametrize("text", ["<obj>images</obj>", "<Object/>", "<obj/>"])
def test_an_element_that_is_only_called_so_is_no_object(text):
    assert read(annotation(text, OBJECT)) == (CAT, [])


@pytest.mark.parametrize("tag", ["object", "Object", "obj", "v:object"])
def test_an_object_is_not_lost_at_any_depth(tag):
    inner = OBJECT.replace("<object", f"<{tag} xmlns:v='u'").replace("/object", f"/{tag}")
    for outside in ("attributes", "part"):
        text = OBJECT.replace("<bndbox>", f"<{outside}>{inner}</{outside}><bndbox>")
        objects, [(code, _, _, _)] = read(annotation(text))
        assert (objects, code) == (None, "object_nested")


@pytest.mark.parametrize(
    "inner",
    [OBJECT.replace("object", "Object"), OBJECT.replace("object", "child")],
)
def test_an_object_in_an_object_is_not_lost_under_any_name(inner):
    objects, found = read(annotation(OBJECT.replace("</object>", f"{inner}</object>")))
    assert objects is None
    assert found[-1][0] in ("object_nested", "box_astray")


@pytest.mark.parametrize("root", ["annotations", "root", "VOC"])
def test_objects_under_another_root_are_set_aside(root):
    objects, [(code, line, _, value)] = read(f"<{root}>\n{OBJECT}</{root}>")
    assert (objects, code, line) == (None, "box_astray", 2)
    assert f"inside <{root}>" in value


def test_what_bears_no_box_may_have_any_name():
    extra = "<occluded>0</occluded><Custom><name>x</name></Custom><segmentation>1 2</segmentation>"
    text = annotation("<weather>rain</weather>", OBJECT.replace("<name>", f"{extra}<name>"))
    assert read(text) == (CAT, [])


def test_a_box_of_vocs_name_goes_before_others():
    outline = "<polygon><x1>1</x1></polygon><bbox>7 7 7 7</bbox><robndbox><cx>9</cx></robndbox>"
    assert read(annotation(OBJECT.replace("<bndbox>", f"{outline}<bndbox>"))) == (CAT, [])


@pytest.mark.parametrize(
    "written",
    [
        "<name>cat</name><bndbox xmin='1' ymin='2' xmax='3' ymax='4'/>",
        "<name>cat</name><bndbox xMin='1' yMin='2' xMax='3' yMax='4'/>",
        f"<name>cat</name>{CORNERS}",
        "<name>cat</name><bbox XMIN='1' YMIN='2' XMAX='3' YMAX='4'/>",
    ],
)
def test_corners_in_another_form_are_read_and_named(written):
    objects, found = read(annotation(f"<object>{written}</object>"))
    assert objects == CAT
    assert [(code, line, number) for code, line, number, _ in found][-1:] == [("box_form", 2, 1)]


def test_corners_of_the_object_itself_are_read_and_named():
    written = "<object xmin='1' ymin='2' xmax='3' ymax='4'><name>cat</name></object>"
    assert read(annotation(written)) == (
        CAT,
        [("box_form", 2, 1, "cat: corners are attributes of <object>")],
    )


@pytest.mark.parametrize(
    "box",
    [
        "<bbox>1 2 3 4</bbox>",
        "<bndbox>1,2,3,4</bndbox>",
        "<bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox>",
        "<bndbox><left>1</left><top>2</top><right>3</right><bottom>4</bottom></bndbox>",
        "<bndbox xmin='1'/>",
        "<robndbox><cx>9</cx><cy>9</cy><w>4</w><h>2</h><angle>45</angle></robndbox>",
        "<robndbox><cx>9</cx><cy>9</cy><w>4</w><h>2</h></robndbox>",
        "<robndbox><cx>9</cx><cy>9</cy><w>-4</w><h>2</h><angle>0</angle></robndbox>",
        "<robndbox>1</robndbox>",
        "<polygon>1,2 3,4 5,6</polygon>",
        "<polygon><x1>1</x1><y1>2</y1><x2>3</x2><y2>4</y2></polygon>",
        "<polygon><x1>1</x1><y1>2</y1><x2>3</x2><y2>4</y2><x3>nan</x3><y3>1</y3></polygon>",
        "<segmentation><x>1</x></segmentation>",
    ],
)
def test_what_cannot_be_read_beyond_doubt_is_set_aside(box):
    objects, found = read(annotation(f"<object><name>cat</name>{box}</object>"))
    code, _, number, value = found[-1]
    assert (objects, code, number) == (None, "box_missing", 1)
    assert value.startswith("cat: no ")


@pytest.mark.parametrize(
    ("angle", "corners"),
    [
        ("0", (5.0, 4.0, 15.0, 8.0)),
        (f"{math.pi / 2:.9f}", (8.0, 1.0, 12.0, 11.0)),
        (f"{-math.pi:.9f}", (5.0, 4.0, 15.0, 8.0)),
        (f"{math.pi / 4:.9f}", (5.050253, 1.050253, 14.949747, 10.949747)),
    ],
)
def test_a_rotated_box_gives_its_hull(angle, corners):
    box = f"<robndbox><cx>10</cx><cy>6</cy><w>10</w><h>4</h><angle>{angle}</angle></robndbox>"
    text = annotation(f"<object><type>robndbox</type><name>cat</name>{box}</object>")
    [(_, found)], findings = read(text)
    assert found == pytest.approx(corners, abs=1e-5)
    assert findings == [("box_from_outline", 2, 1, "cat: <robndbox>")]


@pytest.mark.parametrize(
    "polygon",
    [
        "<polygon><pt><x>5</x><y>4</y></pt><pt><x>9</x><y>2</y></pt><pt><x>7</x><y>8</y></pt></polygon>",
        "<polygon><point><x>5</x><y>4</y></point><point><x>9</x><y>2</y></point><point><x>7</x><y>8</y></point></polygon>",
        "<polygon><x1>5</x1><y1>4</y1><x2>9</x2><y2>2</y2><x3>7</x3><y3>8</y3></polygon>",
        "<Polygon><username>me</username><pt><X>5</X><Y>2</Y></pt><pt><x>9</x><y>2</y></pt><pt><x>7</x><y>8</y></pt></Polygon>",
    ],
)
def test_a_polygon_gives_its_hull(polygon):
    objects, findings = read(annotation(f"<object><name>cat</name>{polygon}</object>"))
    assert objects == [("cat", (5.0, 2.0, 9.0, 8.0))]
    assert ("box_from_outline", 2, 1, "cat: <polygon>") in findings


def test_what_labelme_deleted_is_left_out_and_named():
    objects, found = read(
        annotation(
            OBJECT.replace("<bndbox>", "<deleted>0</deleted><bndbox>"),
            OBJECT.replace("<bndbox>", "<deleted>1</deleted><bndbox>"),
        )
    )
    assert objects == CAT
    assert found == [("object_deleted", 3, 2, "")]


@pytest.mark.parametrize("text", ["nan", "", "NaN", "None"])
def test_a_negative_written_as_nan_is_told_how_negatives_are_written(text):
    empty = BOX.replace("1", text).replace("2", text).replace("3", text).replace("4", text)
    objects, [(code, line, number, _)] = read(
        annotation(f"<object><name>cat</name>{empty}</object>")
    )
    assert (objects, code, line, number) == (None, "box_empty", 2, 1)
    assert RULES[code].action is Action.QUARANTINED
    assert "if the image has no object, remove the <object>" in RULES[code].remedy
