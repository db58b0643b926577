from detflow.data.records.lint.text import format_report


def test_the_text_tells_the_same_in_one_line_each(example, write, lint):
    text = format_report(
        lint(write(example(filename=[b"evil\nname\x1b[31m.jpg"], source_id=[b"a"])))
    )
    assert "evil\\nname\\x1b[31m.jpg" in text
    assert "\x1b" not in text
    assert "Model Garden  no: " in text
    assert "TF OD API     can read it" in text
