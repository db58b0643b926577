import errno
import io
import os
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image


def draw(width=64, height=48, seed=0, mode="RGB"):
    """A smooth random picture: no two seeds look alike, and JPEG keeps it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encode(image, image_format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def voc_object(name="cat", box=(10, 10, 30, 30), extra=""):
    corners = "".join(
        f"<{tag}>{value}</{tag}>"
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def voc_xml(*objects, filename="a.jpg", size=(64, 48), path=None, extra=""):
    parts = [f"<filename>{filename}</filename>" if filename is not None else ""]
    parts += [f"<path>{path}</path>" if path is not None else ""]
    parts += [
        f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
        if size
        else ""
    ]
    return f"<annotation>{''.join(parts)}{extra}{''.join(objects)}</annotation>"


class VocSet:
    """A dataset drawn for one test.

    The helpers hang on it because test modules cannot import one another.
    """

    draw = staticmethod(draw)
    encode = staticmethod(encode)
    object = staticmethod(voc_object)
    xml = staticmethod(voc_xml)

    def __init__(self, root):
        self.root = root
        self.count = 0
        self.denied = set()

    def write(self, path, content):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def add(
        self,
        name,
        *objects,
        image=None,
        suffix=".jpg",
        images="images",
        annotations="annotations",
        **xml,
    ):
        """One image with its annotation; `image` overrides the drawn JPEG."""
        self.count += 1
        self.write(
            f"{images}/{name}{suffix}",
            image if image is not None else encode(draw(seed=self.count)),
        )
        xml.setdefault("filename", f"{name}{suffix}")
        return self.write(
            f"{annotations}/{name}.xml", voc_xml(*(objects or (voc_object(),)), **xml)
        )


@pytest.fixture
def voc_set(tmp_path):
    return VocSet(tmp_path / "set")


@pytest.fixture
def deny(voc_set, monkeypatch):
    """Takes the permission to open files and folders of a set; root would be let in anyway."""

    def deny(*paths):
        denied = {str(voc_set.root / path) for path in paths}

        def guard(function):
            def guarded(path=".", *arguments, **options):
                if os.fspath(path) in denied:
                    raise PermissionError(errno.EACCES, "no", path)
                return function(path, *arguments, **options)

            return guarded

        monkeypatch.setattr(os, "open", guard(os.open))
        monkeypatch.setattr(os, "scandir", guard(os.scandir))

    return deny


@pytest.fixture
def command(capsys):
    """Runs a command in this process; returns its exit code and what it printed."""
    from detflow.cli.main import cli
    from detflow.errors import DetflowError

    def run(*arguments):
        error = ""
        try:
            code = cli.main([str(argument) for argument in arguments], standalone_mode=False) or 0
        except DetflowError as caught:
            code, error = caught.exit_code, f"{caught}\n"
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=printed.err + error)

    return run
