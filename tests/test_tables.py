from detflow.tables import format_change, format_metric


def test_a_change_has_its_sign_and_none_where_nothing_shows():
    assert [format_change(value) for value in (0.01, -0.02, -1e-7, 0.0, None)] == [
        "+0.0100",
        "-0.0200",
        "+0.0000",
        "+0.0000",
        "n/a",
    ]


def test_a_metric_that_could_not_be_measured_reads_so():
    assert [format_metric(value) for value in (0.12345, None)] == ["0.123", "n/a"]
