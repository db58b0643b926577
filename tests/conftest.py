"""What has to stand before any test imports TensorFlow, and what several folders of tests share."""

import base64
import dataclasses
import fcntl
import gc
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

import detflow.models  # noqa: F401  (sets TensorFlow's environment)
from detflow.config.reading import parse_config
from detflow.data.making import RecordOptions, publish_records
from detflow.digests import seal

# onnxruntime would tell its maker of each model that a test runs.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A shell that starts a command in the background has it ignore SIGINT, and so would all that the
# tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Without a deadline: a machine that others use may take longer for an example than for the others.
# The same few examples each time, so that a run is quick and does not fail by luck on a change that
# it is not about; `tools/test --soak` searches with many new ones.
settings.register_profile("same", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("search", deadline=None, max_examples=300)
settings.load_profile("same")

STAND_INS = Path(__file__).with_name("stand_ins")
# pytest imports test files as if they lay in no package; so do we with what stands in for others.
sys.path.append(str(STAND_INS))

CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CANVASES = {"input_size": [64, 96], "more_input_sizes": [[96, 64]]}
RUN_CLASSES = ("disc", "Ringe & Ösen", "it's")


def pytest_ignore_collect(collection_path, config):
    """Skips files of `tf` tests where none is wanted: importing TensorFlow takes seconds."""
    if "not tf" not in config.getoption("markexpr") or collection_path.suffix != ".py":
        return None
    marks = re.search(r"^pytestmark = (\[[^]]*\]|.*)", collection_path.read_text(), re.MULTILINE)
    return True if marks and "mark.tf" in marks.group() else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Orders the files so that each of two processes starts with slow ones.

    `--dist worksteal` gives the first half of the tests to one process and the second half to the
    other. The one that is done first takes over tests from the end of what the other has left, and
    those should be short.
    """
    files = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    # Of one process, so that only one has to be there that others are forked from.
    forking = [tests for tests in files.values() if hasattr(tests[0].module, "forks")]
    others = [tests for tests in files.values() if tests not in forking]
    slow = [tests for tests in others if any(map(_is_slow, tests))]
    first, second = list(chain(*forking, *slow[::2])), list(chain(*slow[1::2]))
    fast = list(chain(*(tests for tests in others if tests not in slow)))
    room = max(0, len(items) // 2 - len(first))
    items[:] = [*first, *fast[:room], *second, *fast[room:]]


def pytest_collection_finish():
    """Lets the garbage collector leave alone what was imported: it stays anyway."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    """Waits for the process that others were forked from: its time is the suite's."""
    if "forks" in sys.modules:
        sys.modules["forks"].end_server()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Chooses the network of a test, and of the fixtures that it is the first to ask for."""
    is_tf = item.get_closest_marker("tf") is not None
    if is_tf or "networks" in sys.modules:
        # It imports TensorFlow.
        import networks

        networks.use(is_small=is_tf and item.get_closest_marker("whole_network") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """Lets a test draw the same at random, whichever tests and fixtures ran before."""
    if item.get_closest_marker("tf"):
        from tf_keras.utils import set_random_seed

        set_random_seed(1)


def _is_slow(item):
    return item.get_closest_marker("slow") or item.get_closest_marker("soak")


class Page:
    """What a browser makes of one of detflow's pages."""

    def __init__(self, html):
        from lxml.html import document_fromstring

        self.html = html
        self._tree = document_fromstring(html)
        self._body = self._tree.find("body")

    @property
    def text(self):
        """All text that is shown, with single spaces."""
        return self.text_of("body")

    def find(self, selector):
        """Returns the elements of an XPath below the body, say `figure[@class="card"]`."""
        return self._body.xpath(f".//{selector}")

    def text_of(self, selector):
        """Returns the text of the only element of an XPath."""
        [element] = [self._body] if selector == "body" else self.find(selector)
        return " ".join(element.text_content().split())

    def texts(self, selector):
        """Returns the text of each element of an XPath."""
        return [" ".join(element.text_content().split()) for element in self.find(selector)]

    def rows(self, selector):
        """Returns the cells' texts of each row of the tables in an XPath."""
        return [
            [" ".join(cell.text_content().split()) for cell in row.xpath("./td|./th")]
            for row in self.find(f"{selector}//tr")
        ]

    def require_inert(self):
        """Asserts that the browser loads nothing and runs our script alone: the page is whole."""
        for element in self._tree.iter():
            assert element.tag not in (
                "link",
                "iframe",
                "object",
                "embed",
                "form",
                "base",
            )
            for name, value in element.attrib.items():
                assert name != "style"
                assert not name.startswith("on")
                if name in ("src", "srcset", "href"):
                    assert value.startswith(("data:image/", "#")), value[:60]
        assert "http" not in self.html.replace("http-equiv", "")
        [script] = self._tree.xpath("//script[not(@type)]/text()")
        # Others hold data, which no browser runs.
        for kind in self._tree.xpath("//script/@type"):
            assert kind == "application/json"
        for text in self._tree.xpath("//script[@type]/text()"):
            assert "<" not in text
            json.loads(text)
        [style] = self._tree.xpath("//style/text()")
        assert "url(" not in style
        assert "@import" not in style
        style_digest, script_digest = (
            base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            for text in (style, script)
        )
        [policy] = self._tree.xpath('//meta[@http-equiv="Content-Security-Policy"]/@content')
        assert policy == (
            f"default-src 'none'; img-src data:; style-src 'sha256-{style_digest}'; "
            f"script-src 'sha256-{script_digest}'; base-uri 'none'; form-action 'none'"
        )

    def require_links(self, *anchors):
        """Asserts the sections of a page, to each of which one link leads."""
        assert [section.get("id") for section in self.find("section")] == list(anchors)
        assert [link.get("href") for link in self.find("nav//a")] == [f"#{a}" for a in anchors]


@pytest.fixture(scope="session")
def parse_page():
    return Page


@pytest.fixture(scope="session")
def chromium():
    """One browser for all tests of a process; it takes a second or two to start."""
    from chromium import Chromium, find_chromium

    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    browser = Chromium(program)
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """The browser with a window of a desktop; whatever a page complained about fails the test."""
    chromium.resize(1280, 900)
    chromium.emulate()
    yield chromium
    assert chromium.faults == []


@pytest.fixture(scope="session")
def build_once(tmp_path_factory):
    """Builds a folder once for all pytest processes that share the tests.

    It is called with a name and with what fills the folder, a function of its path.
    """

    def build(name, fill):
        root = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            root = root.parent
        folder, done = root / name, root / f"{name}.done"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                fill(folder)
                done.touch()
        return folder

    return build


@pytest.fixture(scope="session")
def shared_data():
    """Returns the folder of a real dataset by name; skips the test if it is not there."""

    def find(name):
        folder = _SHARED / name
        if not folder.is_dir():
            pytest.skip(f"the shared set {name} is not beside the repository")
        return folder

    return find


def draw_picture(width, height, seed):
    """Flat rectangles and noise: what a network of random weights tells apart."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), random.integers(0, 256, 3), np.float64)
    for _ in range(6):
        top, left = random.integers(0, height), random.integers(0, width)
        pixels[top : top + height // 3, left : left + width // 3] = random.integers(0, 256, 3)
    return Image.fromarray(
        np.clip(pixels + random.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
    )


@pytest.fixture
def small_files():
    """Lets no file grow beyond so many bytes while a block runs, as a full disk does."""

    @contextmanager
    def limit(num_bytes):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def flip_bits():
    """Flips bits of a file, one at a time, and puts the file back.

    It is called with the path, with what reads it, and with the number of bits; it returns what was
    read where the damage was not noticed, after it has asserted that each error is detflow's and
    names the file.
    """
    from detflow.errors import DetflowError

    def flip(path, read, number=200):
        good, chance = path.read_bytes(), random.Random(0)
        believed, errors = [], []
        for bit in chance.sample(range(8 * len(good)), min(8 * len(good), number)):
            damaged = bytearray(good)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                believed.append(read())
            except DetflowError as error:
                errors.append(error)
        path.write_bytes(good)
        assert {error.exit_code for error in errors} <= {4}
        assert [str(error) for error in errors if path.name not in str(error)] == []
        assert len(errors) > number / 2
        return believed

    return flip


@pytest.fixture(scope="session")
def pictures_dir(build_once):
    """24 JPEGs of several sizes with VOC XML beside them."""
    return build_once("pictures", write_pictures)


def write_pictures(folder):
    folder.mkdir()
    for number in range(24):
        width, height = ((96, 72), (60, 90), (130, 40))[number % 3]
        draw_picture(width, height, number).save(folder / f"p{number:02}.jpg", quality=95)
        name = RUN_CLASSES[number % 3].replace("&", "&amp;")
        (folder / f"p{number:02}.xml").write_text(
            f"<annotation><filename>p{number:02}.jpg</filename><size><width>{width}</width><height>{height}</height></size>"
            f"<object><name>{name}</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>35</xmax><ymax>30</ymax></bndbox></object>"
            "</annotation>",
            encoding="utf-8",
        )


@pytest.fixture(scope="session")
def records_dir(pictures_dir, build_once, tmp_path_factory):
    """The pictures as records: three images to train on, the other 21 are split `val`."""

    def fill(output):
        from detflow.data.judging.audit import AuditOptions

        lists = tmp_path_factory.mktemp("voc")
        for name in sorted(pictures_dir.iterdir()):
            (lists / name.name).write_bytes(name.read_bytes())
        sets = lists / "ImageSets" / "Main"
        sets.mkdir(parents=True)
        keys = [f"p{number:02}" for number in range(24)]
        (sets / "train.txt").write_text("\n".join(keys[:3]) + "\n")
        (sets / "val.txt").write_text("\n".join(keys[3:]) + "\n")
        publish_records(lists, output, RecordOptions(audit=AuditOptions(), jobs=1))

    return build_once("records", fill)


@pytest.fixture(scope="session")
def model_dir(records_dir, build_once):
    """A model directory with two checkpoints of random weights that detect plenty.

    ckpt-10 is the better one.
    """
    settings = {"input_size": [64, 64]}
    return build_once("run", lambda path: write_run(path, records_dir, settings))


@pytest.fixture(scope="session")
def whole_model_dir(records_dir, build_once):
    """The same of Model Garden's network, for a test that is marked `whole_network`."""
    settings = {"input_size": [64, 64]}
    return build_once("whole", lambda path: write_run(path, records_dir, settings, is_small=False))


@pytest.fixture(scope="session")
def canvases_dir(records_dir, build_once):
    """The same for a model of two canvases, one for portrait and one for landscape images."""
    return build_once("canvases", lambda path: write_run(path, records_dir, CANVASES))


def make_record(config, classes=RUN_CLASSES, fingerprint="0" * 64, **changes):
    """What a run of a configuration belongs to."""
    from detflow.label_map import LabelMap
    from detflow.runs.plan import Plan
    from detflow.runs.record import RunRecord

    plan = Plan.fixed(config.train.steps)
    machine = {"threads": 2, "precision": "float32"}
    record = RunRecord(config, LabelMap(tuple(classes)), fingerprint, machine, plan, detflow="1")
    return dataclasses.replace(record, **changes)


@pytest.fixture(scope="session")
def record_of():
    """Builds what a run belongs to, of settings such as "data.train_split=trainval"."""

    def build(*settings, **changes):
        return make_record(parse_config("", ["data.records=there", *settings]), **changes)

    return build


@pytest.fixture(scope="session")
def trained(model_dir):
    """The better checkpoint, loaded. No test changes it."""
    from detflow.inference.trained import load_trained_model

    return load_trained_model(model_dir)


@pytest.fixture(scope="session")
def trained_canvases(canvases_dir):
    """The same of the model of two canvases."""
    from detflow.inference.trained import load_trained_model

    return load_trained_model(canvases_dir)


@pytest.fixture(scope="session")
def run_record():
    return make_record


@pytest.fixture(scope="session")
def save_state():
    """Publishes a checkpoint whose weights are nothing that TensorFlow could read."""
    from detflow.digests import digest_file
    from detflow.runs.states import CHECKPOINT_FILES, CheckpointState, write_state

    def save(run, record, step=8, **entries):
        path = run.checkpoint_path(step)
        path.mkdir(parents=True)
        for name in CHECKPOINT_FILES:
            (path / name).write_text(f"weights of step {step}")
        files = {name: digest_file(path / name) for name in CHECKPOINT_FILES}
        state = CheckpointState(step, files=files, run=record.to_json(), **entries)
        write_state(path, state)
        return state

    return save


def write_run(path, records_dir, model_settings, *, is_small=True):
    import networks
    import tf_keras

    from detflow.config.schema import ExperimentConfig
    from detflow.data.records.manifest import read_manifest
    from detflow.models.build import build_model
    from detflow.runs.checkpoints import Checkpoints, WeightAverage
    from detflow.runs.run_dir import RunDir

    config = ExperimentConfig.model_validate(
        {
            "data": {"records": str(records_dir)},
            "model": {
                "width_multiplier": 0.25,
                "num_filters": 16,
                "num_head_convs": 1,
                **model_settings,
            },
            "evaluate": {"score_threshold": 0.3},
        }
    )
    # All tests share it, whichever asks for it first.
    assert networks.is_small() is is_small
    run = RunDir(path)
    run.path.mkdir()
    tf_keras.utils.set_random_seed(3)
    network = build_model(config.model, len(RUN_CLASSES)).network
    randomize(network, np.random.default_rng(74))
    average = WeightAverage(network, 0.9)
    record = make_record(config, fingerprint=read_manifest(records_dir).fingerprint)
    checkpoints = Checkpoints(run, {"network": network, "average": average}, config, record)
    checkpoints.record()
    checkpoints.save(10, {"AP": 0.5})
    checkpoints.save(20, {"AP": 0.4})
    return run.path


def randomize(network, random):
    """Draws all weights, then scales the last layers.

    Scores on images spread around the threshold, and boxes stay near their anchors.
    """
    for variable in network.variables:
        shape = variable.shape.as_list()
        if "gamma" in variable.name or "variance" in variable.name:
            variable.assign(random.uniform(0.8, 1.2, shape))
        elif "kernel" in variable.name:
            variable.assign(random.normal(0.0, np.prod(shape[:-1]) ** -0.5, shape))
        else:
            variable.assign(random.normal(0.0, 0.1, shape))
    # As coarse as a picture: a network's first layer sees nothing in the mean of much noise.
    squares = random.normal(0.0, 1.0, (8, 8, 8, 3)).astype(np.float32)
    logits, deltas = network(squares.repeat(8, 1).repeat(8, 2), training=False)
    for name, values, spread in (("scores", logits, 2.0), ("boxes", deltas, 0.2)):
        kernel = next(
            variable
            for variable in network.variables
            if variable.name.endswith(f"/{name}/kernel:0")
        )
        kernel.assign(kernel * spread / np.std(values))
    bias = next(
        variable for variable in network.variables if variable.name.endswith("/scores/bias:0")
    )
    # Nothing is found where the canvas is grey, beside an image.
    logits, _ = network(np.zeros((1, 64, 64, 3), np.float32), training=False)
    bias.assign_sub(np.max(logits, (0, 1)) + 3.0)


@pytest.fixture(scope="session")
def export_dir(model_dir, build_once):
    """The model directory in every format that can be written here.

    Its proof is the real one; only the timing is short.
    """

    def fill(output):
        from detflow.exporting.formats import tflite
        from detflow.exporting.proof.compare import Gate, Tolerance
        from detflow.exporting.proof.latency import Timing
        from detflow.exporting.run import export_model

        # Random weights do not survive 8 bits, and no test of what is exported here minds.
        lax = Gate(Tolerance(0.3, min_iou=0.75, max_score_difference=0.15, min_share=0.0), 1.0)
        write = tflite.Writer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                tflite,
                "Writer",
                lambda written: write(written, lax if written.precision == "int8" else None),
            )
            card = export_model(str(model_dir), output, formats="all", timing=Timing(2, 3))
        assert card["failed"] == {}

    return build_once("export", fill)


@pytest.fixture(scope="session")
def artifact_dir(export_dir, build_once):
    """That export with the default formats alone, which TensorFlow runs."""
    return build_once("artifact", lambda path: keep_formats(export_dir, path, DEFAULT_FORMATS))


DEFAULT_FORMATS = ("frozen", "saved_model")


def keep_formats(export_dir, path, names):
    """Copies an export with only some of its formats."""
    shutil.copytree(export_dir, path)
    card = json.loads((path / "model.json").read_text())
    for name, described in list(card["formats"].items()):
        if name not in names:
            del card["formats"][name]
            for part in described["paths"]:
                folder = path / part
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    card["files"] = {
        name: digest for name, digest in card["files"].items() if (path / name).exists()
    }
    (path / "model.json").write_text(json.dumps(seal(card)))


@pytest.fixture(scope="session")
def onnx_dir(export_dir):
    """That export, for tests of the formats that need no TensorFlow."""
    return export_dir


@pytest.fixture(scope="session")
def onnx_path(onnx_dir):
    """The ONNX file of that export, its label map beside it."""
    return onnx_dir / "model.onnx"


@pytest.fixture(scope="session")
def s3_server():
    """A server that speaks S3's protocol on this machine; the environment leads clients to it."""
    import logging

    moto_server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**settings, "AWS_DEFAULT_REGION": "us-east-1"}.items():
            environment.setenv(name, value)
        yield server
    server.stop()


@pytest.fixture(scope="module")
def s3_url(s3_server, request):
    """The URL of a prefix in a new bucket of that server."""
    import boto3

    from detflow.storage.location import Url

    bucket = request.module.__name__.rpartition(".")[2].replace("_", "-")
    boto3.client("s3").create_bucket(Bucket=bucket)
    return Url("s3", f"{bucket}/prefix")


def write_voc(root, splits, num_objects=None, sizes=((48, 48),), names=("dark", "light")):
    """Draws a bright or a dark square, one an image, and annotates it.

    `num_objects` repeats the object, each time a little narrower; 0 leaves out those of all splits
    but train. Two images after each other have one of the sizes (height, width), the next two the
    next one.
    """
    random = np.random.default_rng(0)
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    number = 0
    for split, count in splits.items():
        listed = []
        for _ in range(count):
            number += 1
            name = f"image{number:03}"
            listed.append(name)
            height, width = sizes[number // 2 % len(sizes)]
            pixels = random.integers(90, 130, (height, width, 3), dtype=np.uint8)
            left, top = (int(value) for value in random.integers(2, 24, 2))
            kind = number % 2
            pixels[top : top + 20, left : left + 20] = (240, 240, 60) if kind else (20, 20, 160)
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            copies = (
                1 if num_objects is None or (num_objects == 0 and split == "train") else num_objects
            )
            objects = ""
            for copy in range(copies):
                corners = (left + 1, top + 1, left + 20 - 0.001 * copy, top + 20)
                box = "".join(
                    f"<{tag}>{value}</{tag}>" for tag, value in zip(CORNERS, corners, strict=True)
                )
                objects += f"<object><name>{names[kind]}</name><bndbox>{box}</bndbox></object>"
            (root / "Annotations" / f"{name}.xml").write_text(
                f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height><depth>3</depth>"
                f"</size>{objects}</annotation>"
            )
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(listed) + "\n")


@pytest.fixture(scope="session")
def tiny_records(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    write_voc(root / "voc", {"train": 10, "val": 4, "test": 4})
    publish_records(root / "voc", root / "records", RecordOptions(jobs=1))
    return root / "records"


@pytest.fixture(scope="session")
def mixed_records(tmp_path_factory):
    """Portrait and landscape images."""
    root = tmp_path_factory.mktemp("mixed")
    write_voc(root / "voc", {"train": 10, "val": 4}, sizes=((48, 72), (72, 48)))
    publish_records(root / "voc", root / "records", RecordOptions(jobs=1))
    return root / "records"


@pytest.fixture(scope="session")
def voc_writer():
    """Makes records of a drawn dataset from (folder, images by split, objects an image).

    The dark and the bright squares may have other names, and the classes another order.
    """

    def write(folder, splits, num_objects=None, names=("dark", "light"), classes=None):
        from detflow.data.judging.audit import AuditOptions

        write_voc(folder / "voc", splits, num_objects, names=names)
        options = RecordOptions(audit=AuditOptions(classes=classes), jobs=1, report=False)
        publish_records(folder / "voc", folder / "records", options)
        return folder / "records"

    return write


@pytest.fixture(scope="session")
def tiny_config(tiny_records):
    """Builds a configuration of a network that takes milliseconds a step.

    Keyword arguments override settings, as in train_steps=9.
    """

    def build(**overrides):
        settings = {
            "data.records": str(tiny_records),
            "model.input_size": [32, 32],
            "model.width_multiplier": 0.25,
            "model.num_filters": 8,
            "model.num_head_convs": 1,
            "model.max_level": 4,
            "train.steps": 8,
            "train.batch_size": 2,
            "train.warmup_steps": 2,
            "evaluate.every_steps": 4,
            "checkpoint.every_steps": 2,
            "checkpoint.max_to_keep": 2,
        }
        settings.update({name.replace("_", ".", 1): value for name, value in overrides.items()})
        return parse_config("", [f"{name}={value}" for name, value in settings.items()])

    return build


@pytest.fixture
def sums_without_order():
    """Tells whether a graph adds two tensors at a time everywhere.

    The order in which AddN adds more of them depends on which is there first.
    """

    def check(graph):
        definition = graph.as_graph_def()
        nodes = [
            *definition.node,
            *(node for function in definition.library.function for node in function.node_def),
        ]
        sums = [node for node in nodes if node.op == "AddN"]
        assert sums
        return all(node.attr["N"].i == 2 for node in sums)

    return check
