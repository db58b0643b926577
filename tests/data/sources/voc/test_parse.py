import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sources.voc.read import read_annotation
from detflow.data.sources.voc.source import VOC

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"


def document(name="cat", filename="a.jpg", path="/me/a.jpg"):
    return (
        f"<annotation>\n<filename>{filename}</filename>\n<path>{path}</path>\n"
        f"<object><name>{name}</name>{BOX}</object></annotation>"
    )


def declared(encoding, text):
    return f'<?xml version="1.0" encoding="{encoding}"?>\n{text}'


def read(data):
    """Returns the object's name, the paths by which it claims its image, codes and lines."""
    [annotations, findings] = read_annotation(data, "a.xml")
    found = [(finding.code, finding.line) for finding in findings]
    for annotation in annotations:
        found += [(finding.code, finding.line) for finding in annotation.findings]
        if annotation.objects is not None:
            [entry] = annotation.objects
            assert entry.corners == (1.0, 2.0, 3.0, 4.0)
            return (entry.name, entry.line), annotation.names, found
    return None, None, found


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("data", "line", "code"),
    [
        (b"\n \t" + declared("utf-8", document("猫")).encode(), 6, "xml_head_wrong"),
        (BOM + b"\r\n" + declared("utf-8", document("猫")).encode(), 6, "xml_head_wrong"),
        (BOM * 2 + document("猫").encode(), 4, "xml_head_wrong"),
        (BOM * 3 + declared("UTF-8", document("猫")).encode(), 5, "xml_head_wrong"),
        (("\ufeff" + document("猫")).encode("utf-16"), 4, "xml_head_wrong"),
        (declared("utf-16", document("猫")).encode(), 5, "encoding_wrong"),
        (declared("UTF-16LE", document("猫")).encode(), 5, "encoding_wrong"),
        (document("猫").encode("utf-16-le"), 4, "encoding_wrong"),
        (document("猫").encode("utf-16-be"), 4, "encoding_wrong"),
        (declared("ISO-8859-1", document("猫")).encode(), 5, "encoding_wrong"),
        (declared("windows-1252", document("猫")).encode(), 5, "encoding_wrong"),
        (declared("us-ascii", document("猫")).encode(), 5, "encoding_wrong"),
        (declared("gbk", document("猫猫")).encode(), 5, "encoding_wrong"),
        (declared("gb2312", document("\U0001f408")).encode(), 5, "encoding_wrong"),
    ],
)
def test_what_the_bytes_prove_is_read(data, line, code):
    name, names, found = read(data)
    assert name in (("猫", line), ("猫猫", line), ("\U0001f408", line))
    assert names[:2] == ("a.jpg", "/me/a.jpg")
    assert found == [(code, 1)]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gbk", "shift_jis", "big5"])
@pytest.mark.parametrize("says", [None, "utf-8", "klingon", "utf-16"])
def test_in_an_unknown_encoding_only_ascii_is_certain(encoding, says):
    letters = {"latin-1": "Käfer", "cp1252": "Käfer"}.get(encoding, "山田")

    def encode(**fields):
        text = document(**fields)
        return (text if says is None else declared(says, text)).encode(encoding)

    name, names, found = read(encode(path=f"C:\\{letters}\\a.jpg"))
    assert (name[0], names) == ("cat", ("a.jpg", None, None))
    assert found == [("encoding_wrong", 1)]
    for fields in ({"name": letters}, {"filename": f"{letters}.jpg"}):
        name, _, [(code, line)] = read(encode(**fields))
        assert (name, code) == (None, "xml_malformed")
        assert line > 1


def test_a_declared_encoding_of_pairs_counts_even_where_the_bytes_could_be_utf_8():
    """猫 in GBK has the bytes of è in UTF-8."""
    assert "猫".encode("gbk").decode() == "è"
    name, _, found = read(declared("gbk", document("猫")).encode("gbk"))
    assert (name[0], found) == ("猫", [])


@pytest.mark.parametrize("encoding", ["cp037", "punycode"])
def test_where_ascii_may_mean_something_else_nothing_is_read(encoding):
    name, _, [(code, _)] = read(declared(encoding, document("+ckc-")).encode())
    assert (name, code) == (None, "xml_malformed")


def test_a_name_of_an_encoding_that_only_python_knows_is_followed():
    name, _, found = read(declared("latin-1", document("Käfer")).encode("latin-1"))
    assert (name[0], found) == ("Käfer", [("xml_head_wrong", 1)])


@pytest.mark.parametrize("before", [b" ", b"\n\n", BOM * 2])
def test_a_doctype_is_refused_whatever_stands_before_it(before):
    data = before + b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "x">]>' + document().encode()
    assert [code for code, _ in read(data)[2]] == ["xml_doctype"]


@pytest.mark.parametrize(
    "head",
    [
        "<annotation>",
        "<?xml version='1.0'?>\n<annotation verified='yes'>",
        "<!-- made by x -->\n\n <annotation>",
        "\ufeff\ufeff<?xml version='1.0'?><?style x?><!-- a --><!-- b --><Annotation>",
        "<v:annotation xmlns:v='x'>",
        "<!DOCTYPE annotation [<!ENTITY a 'b'>]><annotation>",
        "<!--" + "x" * 2000,
        "<?xml version='1.0'?><annotations>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_an_annotation_is_known_by_its_head(head, encoding):
    assert VOC.has_head(head.encode(encoding)[:1024])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"annotation",
        b"<?xml version='1.0'?><svg>",
        b"<!DOCTYPE html><html>",
        b"<!-- a --><html>",
        b"PK\x03\x04",
        b"{}",
    ],
)
def test_other_files_are_not(head):
    assert not VOC.has_head(head)


@given(
    st.binary(max_size=40), st.sampled_from([b"", b"<?xml ", b"<!--", b"\xff\xfe", b"<!DOCTYPE"])
)
def test_no_head_escapes(tail, start):
    assert VOC.has_head(start + tail) in (True, False)
