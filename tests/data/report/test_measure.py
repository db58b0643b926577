import numpy as np

from detflow.data.report.boxes import build_box_charts, build_sizes
from detflow.data.report.measure import (
    CENTRE_BINS,
    Measured,
    collect_findings,
    measure_audit,
)


def test_each_object_is_in_every_histogram_once(voc_set, audited):
    # 24 × 18 pixels around (20, 23), in an image of 64 × 48.
    cat = voc_set.object("cat", (9, 15, 32, 32))
    voc_set.add("a", cat)
    voc_set.add("b", cat, voc_set.object("dog", (1, 1, 60, 10)))
    voc_set.write("images/none.jpg", voc_set.encode(voc_set.draw(seed=9)))
    voc_set.write("annotations/none.xml", voc_set.xml(filename="none.jpg"))
    measured = measure_audit(audited())
    assert measured.sizes == {(64, 48): 3}
    assert measured.objects.tolist()[:3] == [1, 1, 1]
    assert measured.class_images == {"cat": 2, "dog": 1}
    for counts in (measured.shares, measured.sides, measured.aspects, measured.centres):
        assert counts.sum() == 3
    # log2(√(24 · 18)) = 4.4 octaves above one pixel, of three bins each.
    assert measured.class_sides["cat"].tolist() == [0] * 13 + [2] + [0] * 22
    # log2(24 / 18) = .4 octaves above 1:1, which stands after four octaves of four bins each.
    assert measured.aspects[17] == 2
    # Both sides are .375 of the image's: 1.4 octaves below the upper end.
    assert measured.shares[26, 26] == 2
    # Row 0 is at the bottom.
    assert measured.centres[CENTRE_BINS - 1 - 11, 7] == 2


def test_memory_is_bounded_by_rows_at_a_time(voc_set, audited, monkeypatch):
    for number in range(5):
        voc_set.add(f"i{number}", *(voc_set.object("cat", (1, 1, 20 + i, 20)) for i in range(4)))
    audit = audited()
    whole = measure_audit(audit)
    monkeypatch.setattr("detflow.data.report.measure._ROWS_AT_A_TIME", 3)
    parts = measure_audit(audit)
    for name in ("shares", "sides", "aspects", "centres", "objects"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.class_sides["cat"].tolist() == parts.class_sides["cat"].tolist()


def test_findings_are_counted_and_the_first_ones_kept(voc_set, audited):
    zero = voc_set.object("cat", (9, 9, 9, 9))
    for number in range(3):
        voc_set.add(f"i{number}", voc_set.object(), zero)
    found = collect_findings(audited(), max_examples=2)
    assert found.counts["box_zero_area"] == 3
    assert [finding.path for finding in found.examples["box_zero_area"]] == [
        "annotations/i0.xml",
        "annotations/i1.xml",
    ]
    assert found.left_out == 3


def test_charts_leave_out_empty_octaves():
    measured = Measured()
    # 32 to 64 pixels: octave 5.
    measured.sides[15:18] = (3, 1, 0)
    measured.aspects[16] = 4
    measured.objects[2] = 4
    charts = build_box_charts(measured)
    texts = {name: [label.text for label in chart.labels] for name, chart in charts.items()}
    assert texts["sides"] == ["32", "3", "32", "64"]
    assert texts["aspects"] == ["4", "1:1", "2:1"]
    assert texts["objects"] == ["4", "2"]


def test_few_sizes_are_listed_and_the_others_counted():
    measured = Measured()
    measured.sizes.update({(10 * n, 10): n for n in range(1, 9)})
    sizes = build_sizes(measured)
    assert [(row.width, row.images) for row in sizes.rows] == [(10 * n, n) for n in range(8, 2, -1)]
    assert sizes.num_others == 2
