"""Python imports this when it starts, where this folder is on its path.

So that a command, and the processes that it starts, compute with the small network.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location
from pathlib import Path


class _SmallNetwork(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "detflow.models.garden.retinanet":
            return None
        return spec_from_file_location(name, Path(__file__).parents[1] / "small_network.py")


sys.meta_path.insert(0, _SmallNetwork())
