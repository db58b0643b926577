"""What building a network imports of Model Garden."""

import importlib
import sys

import forks
import pytest

pytestmark = pytest.mark.tf


def import_networks():
    for name in ("build", "faster_rcnn", "yolo"):
        importlib.import_module(f"detflow.models.{name}")
    assert "official.vision.configs.retinanet" in sys.modules
    others = ("official.vision.tasks", "official.vision.dataloaders", "official.core.base_trainer")
    assert not set(others) & sys.modules.keys()


def test_the_networks_need_nothing_of_other_tasks():
    # In this process other tests may have asked for more.
    process = forks.start_process(import_networks)
    process.join()
    assert process.exitcode == 0
