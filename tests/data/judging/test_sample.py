from detflow.data.images.transcode import Treatment
from detflow.data.judging.sample import AuditedSample
from detflow.data.records.schema import ObjectColumns, to_record_box
from detflow.types import Box, ImageSize, ObjectAnnotation

SIZE = ImageSize(64, 48)


def test_an_audited_sample_survives_the_round_trip():
    objects = (
        ObjectAnnotation("cät", Box(0.0, 0.25, 1.0, 0.5), difficult=True, pose="Left"),
        ObjectAnnotation("b", to_record_box(Box(0.1, 0.2, 0.3, 0.4))),
    )
    sample = AuditedSample(
        "a/b.xml",
        "i/\udce9.jpg",
        12,
        "ab" * 32,
        SIZE,
        Treatment(True, 6, False),
        ObjectColumns.of(objects),
        [7, 19],
    )
    assert AuditedSample.from_json(sample.to_json()) == sample
    assert sample.key == "a/b"
