def test_examples_are_capped_and_counts_are_not(example, write, lint):
    path = write(*(example(source_id=[b"x%d" % i]) for i in range(30)))
    report = lint(path)
    assert report.counts["source_id_not_numeric"] == 30
    assert len(report.examples["source_id_not_numeric"]) == 20
    assert report.to_json()["issues"]["source_id_not_numeric"]["count"] == 30
