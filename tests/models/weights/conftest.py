import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

OPEN_IMAGES = "object_detection_ssd_mobilenetv2_oidv4_fp16.tflite"


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data sets and weights beside the repository's folder."""
    folder = Path(
        os.environ.get("DETFLOW_SHARED_DATA") or Path(__file__).parents[4] / "shared" / "data"
    )
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; DETFLOW_SHARED_DATA may name the folder")
    return folder


@pytest.fixture(scope="session")
def open_images_file(shared_data):
    """The TFLite file of the detector that was trained on Open Images."""
    path = shared_data / "weights" / OPEN_IMAGES
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path
