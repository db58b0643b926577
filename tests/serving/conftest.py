"""An export whose network is a rule over colours, and a real server around it in a thread."""

import asyncio
import io
import json
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from PIL import Image

from detflow.digests import digest_files, seal
from detflow.label_map import LabelMap
from detflow.publish import publish_directory
from detflow.serving.app import Service
from detflow.serving.limits import Limits
from detflow.serving.metrics import Metrics
from detflow.serving.models import ArtifactSource, ModelStore
from detflow.serving.server import build_server
from detflow.types import Box, Detection

CLASSES = ("red", "green", "<b>blue</b>")


def publish_export(path, *, shift=0.0, step=10, names=CLASSES):
    """Publishes a folder that `ArtifactDir.verify` accepts; `shift` is the whole of its weights.

    The card has `names`, the model all classes.
    """
    with publish_directory(path) as staging:
        (staging / "label_map.pbtxt").write_text(LabelMap(CLASSES).to_pbtxt())
        (staging / "weights.json").write_text(json.dumps({"shift": shift}))
        card = {"classes": names, "checkpoint": {"step": step}, "files": digest_files(staging)}
        (staging / "model.json").write_text(json.dumps(seal(card)))
    return path


class RuleDetector:
    """Finds the brightest channel in a picture's left half, and with a low score in all of it.

    While the gate is closed, the network waits; `batches` lists the shapes of what it was given,
    but for the picture that the server tries a new model with.
    """

    def __init__(self, shift):
        self.label_map = LabelMap(CLASSES)
        self.canvas_sizes = ()
        self.shift = shift
        self.gate = threading.Event()
        self.gate.set()
        self.batches = []
        self.is_tried = False
        self.fails_on_height = None

    def detect(self, images):
        if self.is_tried:
            self.batches.append([image.shape for image in images])
        self.is_tried = True
        assert self.gate.wait(300)
        for image in images:
            if image.shape[0] == self.fails_on_height:
                raise RuntimeError("the network has no opinion")
            class_id = int(np.argmax(image[:, : image.shape[1] // 2].mean((0, 1)))) + 1
            name = CLASSES[class_id - 1]
            box = Box(0.25, 0.1 + self.shift, 0.75, 0.5)
            yield [
                Detection(name, class_id, 0.9, box),
                Detection(name, class_id, 0.2, Box(0.0, 0.0, 1.0, 1.0)),
            ]


def encode(colour=(200, 20, 20), size=(40, 20), image_format="PNG", orientation=None):
    """A picture whose left half has a colour and whose right half is reddish, as a file's bytes."""
    pixels = np.full((size[1], size[0], 3), (120, 70, 70), np.uint8)
    pixels[:, : size[0] // 2] = colour
    image, exif, buffer = Image.fromarray(pixels), Image.Exif(), io.BytesIO()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(buffer, image_format, exif=exif)
    return buffer.getvalue()


@contextmanager
def running(path, *, token=None, hosts=None, poll_s=0.05, wait=True, **limits):
    """Serves a folder on a free port; yields the client, the loaded detectors, and the insides."""
    bounds = Limits(**limits)
    detectors = []

    def load(folder):
        detectors.append(RuleDetector(json.loads((folder / "weights.json").read_text())["shift"]))
        return detectors[-1]

    metrics = Metrics(bounds.max_batch)
    store = ModelStore(ArtifactSource(path, load), "cells", metrics, poll_s)
    service = Service(store, bounds, metrics, token=token, hosts=hosts)
    server = build_server(service, bounds)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    port = listener.getsockname()[1]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=300, headers=headers, trust_env=False
        ) as client:
            if wait:
                wait_until(lambda: client.get("/readyz").status_code == 200)
            yield SimpleNamespace(
                client=client,
                port=port,
                detectors=detectors,
                service=service,
                store=store,
                server=server,
                thread=thread,
            )
    finally:
        for detector in detectors:
            detector.gate.set()
        server.should_exit = True
        thread.join(300)
        assert not thread.is_alive()


def wait_until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def metric(client, name):
    """Returns the sum of a metric's samples, by its whole name with or without the first labels."""
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((f"{name} ", f"{name}{{", f"{name},"))
    )


@pytest.fixture(scope="session")
def kit():
    """What the tests share: functions, and names of the export."""
    return SimpleNamespace(
        classes=CLASSES,
        detector=RuleDetector,
        token="correct-horse-battery",
        encode=encode,
        metric=metric,
        publish_export=publish_export,
        running=running,
        wait_until=wait_until,
    )


@pytest.fixture(scope="session")
def served_dir(tmp_path_factory):
    return publish_export(tmp_path_factory.mktemp("export") / "cells")


@pytest.fixture(scope="module")
def served(served_dir):
    """One server with small limits for all tests of a module that leave it as it was."""
    with running(
        served_dir,
        max_body_bytes=200_000,
        max_pixels=100_000,
        max_instances=4,
        max_queue=16,
        body_s=1.0,
        header_s=1.0,
    ) as server:
        yield server
