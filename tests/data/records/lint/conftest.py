import hashlib

import pytest

from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.example import encode_example
from detflow.data.records.lint.judge import lint_records
from detflow.data.records.tfrecord import frame_record
from detflow.data.workers.processes import ProcessMap


@pytest.fixture
def lint():
    """Judges a file or a folder in this process."""
    return lambda path: lint_records(path, ProcessMap(None, 1), lambda what, done, total: None)


@pytest.fixture
def example(voc_set):
    """Makes a foreign record; fields are overridden by name, None leaves one out."""
    numbers = iter(range(1, 1000))

    def make(**changes):
        number = next(numbers)
        image = changes.pop("image", None) or voc_set.encode(voc_set.draw(64, 48, seed=number))
        features = {
            "image/encoded": (bytes, [image]),
            "image/format": (bytes, [b"jpeg"]),
            "image/filename": (bytes, [b"%d.jpg" % number]),
            "image/source_id": (bytes, [b"%d" % number]),
            "image/key/sha256": (bytes, [hashlib.sha256(image).hexdigest().encode()]),
            "image/height": (int, [48]),
            "image/width": (int, [64]),
            "image/object/bbox/ymin": (float, [0.1, 0.5]),
            "image/object/bbox/xmin": (float, [0.2, 0.5]),
            "image/object/bbox/ymax": (float, [0.3, 0.75]),
            "image/object/bbox/xmax": (float, [0.4, 0.75]),
            "image/object/class/label": (int, [1, 2]),
            "image/object/class/text": (bytes, [b"cat", b"dog"]),
        }
        for name, value in changes.items():
            field = name.replace("__", "/")
            field = next(known for known in features if known.endswith(field))
            if value is None:
                del features[field]
            else:
                features[field] = value if isinstance(value, tuple) else (features[field][0], value)
        return encode_example(features)

    return make


@pytest.fixture
def write(tmp_path):
    def write(*examples, name="train.record"):
        path = tmp_path / "records" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(map(frame_record, examples)))
        return path

    return write


@pytest.fixture
def ours(voc_set, tmp_path):
    for number in range(12):
        voc_set.add(f"image{number}", voc_set.object("cat"), voc_set.object("dog", (1, 1, 64, 48)))
    publish_records(voc_set.root, tmp_path / "records", RecordOptions())
    return tmp_path / "records"
