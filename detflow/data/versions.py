"""The versions of all that decides the bytes of a records directory."""

from __future__ import annotations

from functools import cache

import lxml.etree
import numpy as np
import PIL
import simplejpeg
from google.protobuf import __version__ as protobuf_version

from detflow.version import __version__


@cache
def find_versions() -> dict[str, str]:
    """Returns the version of each package, as a manifest has it.

    Two machines that agree in all of them write the same shard.
    """
    return {
        "detflow": __version__,
        "lxml": lxml.etree.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "protobuf": protobuf_version,
        "simplejpeg": ".".join(simplejpeg.__version_info__),
    }
