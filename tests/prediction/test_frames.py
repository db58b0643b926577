import pytest
from PIL import Image

from detflow.errors import ConfigError, DataError
from detflow.prediction.frames import find_media


@pytest.fixture
def photos(tmp_path):
    """Two pictures, and between them the output of an earlier run with two of its own."""
    for name in ("a.jpg", "z.jpg", "out/overlays/a.jpg", "out/voc/z.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path)
    return tmp_path / "photos"


def names(files):
    return [file.path.name for file in files]


def test_predictions_do_not_find_themselves_again(photos, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(photos)
    assert len(find_media([str(photos)])) == 4
    monkeypatch.chdir(tmp_path)
    for source in (str(photos), "photos", "photos/**/*.jpg", "photos/*", "link"):
        assert names(find_media([source], photos / "out")) == ["a.jpg", "z.jpg"]
    assert names(find_media(["photos"], tmp_path / "link" / "out")) == ["a.jpg", "z.jpg"]


def test_an_output_beside_the_source_leaves_nothing_out(photos, tmp_path):
    assert len(find_media([str(photos)], tmp_path / "out")) == 4


@pytest.mark.parametrize("source", ["out", "out/voc", "out/voc/z.jpg"])
def test_a_source_that_would_be_replaced_is_refused(photos, source):
    with pytest.raises(ConfigError, match="--output would replace the source"):
        find_media([str(photos), str(photos / source)], photos / "out")


def test_only_pictures_of_an_earlier_run_are_none(photos):
    (photos / "a.jpg").unlink()
    (photos / "z.jpg").unlink()
    with pytest.raises(DataError, match="no image but in the output folder"):
        find_media([str(photos)], photos / "out")
