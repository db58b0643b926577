import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sources.voc.parse import MAX_XML_BYTES
from detflow.data.sources.voc.read import MAX_OBJECTS, read_annotation

LABELIMG = """<annotation verified="yes">
	<folder>images</folder>
	<filename>a b#1=2.jpg</filename>
	<path>C:\\Users\\me\\images\\a b#1=2.jpg</path>
	<source><database>Unknown</database></source>
	<size>
		<width>640</width>
		<height>480</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>猫</name>
		<pose>Left</pose>
		<truncated>1</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>12</xmin>
			<ymin>3.5</ymin>
			<xmax>1e2</xmax>
			<ymax>77.25</ymax>
		</bndbox>
	</object>
</annotation>
"""


def read(data, path="a.xml"):
    """Returns the annotation, or None where it cannot be used, and what was found."""
    annotations, findings = read_annotation(data, path)
    if not annotations:
        return None, findings
    [annotation] = annotations
    assert not findings
    return (None if annotation.objects is None else annotation), annotation.findings


def read_one(text):
    annotation, findings = read(text.encode() if isinstance(text, str) else text)
    return annotation, [(finding.code, finding.line, finding.object_index) for finding in findings]


def with_object(body, before="", after=""):
    return f"<annotation>{before}\n<object>{body}</object>{after}</annotation>"


BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"


def test_labelimg():
    annotation, findings = read_one(LABELIMG)
    assert findings == []
    assert annotation.names.filename == "a b#1=2.jpg"
    assert annotation.names.source_path == r"C:\Users\me\images\a b#1=2.jpg"
    assert (annotation.size, annotation.size_line) == ((640, 480), 6)
    (entry,) = annotation.objects
    assert (entry.number, entry.line, entry.name, entry.pose) == (1, 12, "猫", "Left")
    assert entry.corners == (12.0, 3.5, 100.0, 77.25)
    assert (entry.difficult, entry.truncated) == (False, True)


@pytest.mark.parametrize(
    ("encoding", "declared", "bom"),
    [
        ("utf-8", "utf-8", b""),
        ("utf-8", None, b""),
        ("utf-8", "UTF-8", b"\xef\xbb\xbf"),
        ("utf-16", "UTF-16", b""),
        ("utf-16-be", "UTF-16", b"\xfe\xff"),
        ("gb2312", "GB2312", b""),
        ("gb18030", "GB18030", b""),
        ("big5", "Big5", b""),
    ],
)
def test_encodings(encoding, declared, bom):
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    annotation, findings = read_one(bom + (head + LABELIMG.replace("猫", "山")).encode(encoding))
    assert findings == []
    assert annotation.objects[0].name == "山"


def test_latin_1():
    annotation, _ = read_one(
        ('<?xml version="1.0" encoding="ISO-8859-1"?>' + LABELIMG.replace("猫", "Käfer")).encode(
            "latin-1"
        )
    )
    assert annotation.objects[0].name == "Käfer"


@pytest.mark.parametrize(
    "text",
    [
        LABELIMG.replace("猫", "Käfer").encode("latin-1"),
        b"",
        b"\0\0\0",
        LABELIMG[:-20].encode(),
        '<?xml version="1.0" encoding="klingon"?><annotation><name>ä</name></annotation>'.encode(),
        b'<?xml version="1.0" encoding="utf-7"?><annotation><b></annotation>',
        with_object(f"<name>&undeclared;</name>{BOX}").encode(),
        b"<annotation>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</annotation>",
        b"<annotation><filename>a\0b</filename></annotation>",
    ],
)
def test_what_is_not_well_formed_has_a_line(text):
    annotation, [(code, line, _)] = read_one(text)
    assert annotation is None
    assert code == "xml_malformed"
    assert line >= 1


BOMB = (
    '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
)


@pytest.mark.parametrize(
    "doctype",
    [
        BOMB,
        '<!DOCTYPE annotation SYSTEM "http://127.0.0.1:1/x.dtd">',
        "<!DOCTYPE annotation>",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "utf-7"])
def test_a_doctype_is_refused(doctype, encoding):
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n\n{doctype}\n'
        "<annotation><filename>&x;</filename></annotation>"
    )
    annotation, [(code, line, _)] = read_one(text.encode(encoding))
    assert annotation is None
    if encoding in ("utf-8", "utf-16"):
        assert (code, line) == ("xml_doctype", 3)
    else:
        assert code in ("xml_doctype", "xml_malformed")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ca<!-- x -->t", "cat"),
        ("ca<?x y?>t", "cat"),
        ("<![CDATA[ca]]>t", "cat"),
        ("c&#97;t", "cat"),
        ("R&amp;D", "R&D"),
    ],
)
def test_a_name_is_read_whole(name, expected):
    annotation, findings = read_one(with_object(f"<name>{name}</name>{BOX}"))
    assert annotation.objects[0].name == expected
    assert findings == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (f"<name>ca<b>t</b></name>{BOX}", "field_has_children"),
        (f"<name>cat</name>{BOX.replace('<xmin>1', '<xmin>1<b/>')}", "field_has_children"),
        (f"<name>cat</name><name>dog</name>{BOX}", "field_twice"),
        (f"<name>cat</name>{BOX}{BOX}", "field_twice"),
        (
            f"<name>cat</name>{BOX.replace('<xmin>1</xmin>', '<xmin>1</xmin><xmin>2</xmin>')}",
            "field_twice",
        ),
        (f"<name> </name>{BOX}", "name_missing"),
        (BOX, "name_missing"),
        ("<name>cat</name>", "box_missing"),
        (f"<name>cat</name>{BOX.replace('<xmax>3</xmax>', '')}", "box_missing"),
        ("<name>cat</name><polygon><x1>1</x1></polygon>", "box_missing"),
        (f"<name>cat</name><object>{BOX}</object>{BOX}", "object_nested"),
    ],
)
def test_what_is_ambiguous_or_incomplete_is_refused(body, code):
    annotation, [(found, line, _)] = read_one(with_object(body))
    assert annotation is None
    assert (found, line) == (code, 2)


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "inf",
        "-inf",
        "1_000",
        "１２",
        "1,5",
        "",
        "0x10",
        "1e999",
        "12px",
        "1 2",
        "--1",
        "٣",
        "1e",
    ],
)
def test_what_is_no_number_is_named(text):
    annotation, findings = read(
        with_object(f"<name>cat</name>{BOX.replace('<ymax>4', '<ymax>' + text)}").encode(),
        "d/a.xml",
    )
    assert annotation is None
    (finding,) = findings
    assert (finding.code, finding.path, finding.line, finding.object_index) == (
        "box_not_a_number",
        "d/a.xml",
        2,
        1,
    )
    assert finding.value == f"cat: ymax {text!r}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4.0),
        (" 4\n", 4.0),
        ("+4.", 4.0),
        ("-.5", -0.5),
        ("4e0", 4.0),
        ("004", 4.0),
        ("1E-3", 0.001),
    ],
)
def test_numbers(text, value):
    annotation, findings = read_one(
        with_object(f"<name>cat</name>{BOX.replace('<ymax>4', '<ymax>' + text)}")
    )
    assert annotation.objects[0].corners[3] == value
    assert findings == []


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_that_python_writes_is_read(value):
    annotation, _ = read_one(
        with_object(f"<name>cat</name>{BOX.replace('<ymax>4', '<ymax>' + repr(value))}")
    )
    if re.fullmatch(r"-?\d{1,20}(\.\d+)?(e[+-]?\d+)?", repr(value)):
        assert annotation.objects[0].corners[3] == value


def test_all_unreadable_objects_are_named_at_once():
    bad = f"<name>cat</name>{BOX.replace('<ymax>4', '<ymax>nan')}"
    annotation, findings = read_one(
        f"<annotation>\n<object>{bad}</object>\n<object>{BOX}</object>\n<object>{bad}</object></annotation>"
    )
    assert annotation is None
    assert findings == [
        ("box_not_a_number", 2, 1),
        ("name_missing", 3, 2),
        ("box_not_a_number", 4, 3),
    ]


def test_nested_parts_and_attributes_are_not_the_objects_own_fields():
    body = f"""<part><name>head</name>{BOX.replace("1", "9")}</part><part><name>foot</name></part>
    <attributes><attribute><name>color</name><value>red</value></attribute></attributes><name>person</name>{BOX}"""
    annotation, findings = read_one(with_object(body))
    assert findings == []
    assert annotation.objects[0].name == "person"
    assert annotation.objects[0].corners == (1.0, 2.0, 3.0, 4.0)


def test_roboflow_orders_the_corners_otherwise_and_a_namespace_changes_nothing():
    box = "<bndbox><xmin>1</xmin><xmax>3</xmax><ymin>2</ymin><ymax>4</ymax></bndbox>"
    text = with_object(f"<occluded>0</occluded>{box}<name>cat</name>").replace(
        "<annotation>", '<annotation xmlns="urn:x">'
    )
    annotation, findings = read_one(text)
    assert findings == []
    assert annotation.objects[0].corners == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("text", "value", "code"),
    [
        ("1", True, None),
        ("true", True, None),
        ("", False, None),
        ("False", False, None),
        ("2", False, "flag_unreadable"),
    ],
)
def test_flags(text, value, code):
    annotation, findings = read_one(
        with_object(f"<name>cat</name>{BOX}<difficult>{text}</difficult>")
    )
    assert annotation.objects[0].difficult is value
    assert [found for found, _, _ in findings] == ([code] if code else [])


def test_white_space_in_a_name_is_collapsed_and_said():
    annotation, findings = read_one(with_object(f"<name>\n traffic   light </name>{BOX}"))
    assert annotation.objects[0].name == "traffic light"
    assert findings == [("name_whitespace", 2, 1)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("<width>4</width><height>3</height>", (4, 3)),
        ("<width>4.0</width><height>3</height>", (4, 3)),
        ("<width>0</width><height>0</height>", (0, 0)),
        ("<width>4</width>", None),
        ("<width>4.5</width><height>3</height>", None),
        ("<width>-4</width><height>3</height>", None),
        ("", None),
    ],
)
def test_sizes(size, expected):
    annotation, _ = read_one(f"<annotation><size>{size}</size></annotation>")
    assert annotation.size == expected


def test_other_xml_is_no_annotation():
    annotation, findings = read_one("<annotations><image/></annotations>")
    assert annotation is None
    assert findings == [("xml_not_voc", 1, None)]


def test_a_large_file_and_many_objects_are_refused():
    _, findings = read_one(b" " * (MAX_XML_BYTES + 1))
    assert findings == [("xml_too_large", None, None)]
    _, findings = read_one(f"<annotation>{'<object/>' * (MAX_OBJECTS + 1)}</annotation>")
    assert findings == [("too_many_objects", None, None)]


@pytest.mark.parametrize("tag", ["filename", "path"])
def test_children_in_a_file_name_leave_nothing_to_pair_with(tag):
    content = read_annotation(f"<annotation><{tag}><b/></{tag}></annotation>".encode(), "a.xml")
    assert content.annotations == ()
    assert [finding.code for finding in content.findings] == ["field_has_children"]


def test_an_annotation_whose_objects_cannot_be_read_claims_its_image_all_the_same():
    for objects in ("<object/>", "<object><name>a</name><object/></object>"):
        text = (
            "<annotation><folder> d </folder><filename>b.jpg</filename><path>c</path>"
            f"{objects}</annotation>"
        )
        [annotation] = read_annotation(text.encode(), "a.xml").annotations
        assert annotation.names == ("b.jpg", "c", "d")
        assert annotation.objects is None
        assert annotation.findings


@pytest.mark.parametrize("folder", ["", "<folder/>", "<folder><a/></folder>"])
def test_an_empty_name_is_no_name(folder):
    text = f"<annotation>{folder}<filename/></annotation>"
    [annotation] = read_annotation(text.encode(), "a.xml").annotations
    assert annotation.names == (None, None, None)


@given(
    st.binary(max_size=300)
    | st.text(max_size=200).map(lambda text: with_object(text).encode("utf-8", "replace"))
)
def test_no_input_escapes(data):
    annotation, findings = read(data, "a.xml")
    assert annotation is not None or findings
