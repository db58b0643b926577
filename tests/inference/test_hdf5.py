"""Weights in HDF5: those that Keras wrote, and those that somebody made to do harm."""

import json
import shutil

import h5py
import numpy as np
import pytest
import tf_keras

from detflow.config.schema import EvaluateConfig, ModelConfig
from detflow.errors import ArtifactError, ConfigError
from detflow.inference import hdf5
from detflow.inference.hdf5 import (
    Description,
    build_serving,
    read_description,
    read_weights,
    write_hdf5,
)
from detflow.label_map import LabelMap

pytestmark = pytest.mark.tf

TOLD = Description(ModelConfig(), EvaluateConfig(), LabelMap(("disc", "Ringe & Ösen", "it's")))
KERNEL = "dense/dense/kernel:0"


def build(seed=0):
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    inputs = tf_keras.Input([4])
    inner = tf_keras.Sequential([tf_keras.layers.Dense(3), tf_keras.layers.BatchNormalization()])
    return tf_keras.Model(inputs, inner(tf_keras.layers.Dense(5, name="dense")(inputs)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("hdf5") / "model_weights.h5"
    network = build()
    write_hdf5(path, network, TOLD)
    return path, network.get_weights()


@pytest.fixture
def path(sound, tmp_path):
    return shutil.copy(sound[0], tmp_path / "model_weights.h5")


def read(path):
    network = build(seed=1)
    with h5py.File(path) as file:
        read_weights(file, network, path)
    return network


def test_weights_come_back_here_and_in_keras_itself(sound):
    path, weights = sound
    again = build(seed=1)
    assert any((a != b).any() for a, b in zip(again.get_weights(), weights, strict=True))
    again.load_weights(path)
    for network in (again, read(path)):
        for found, expected in zip(network.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_file_says_what_it_is_of(sound):
    assert read_description(sound[0]) == TOLD


def replace(name, **options):
    """Returns what puts another dataset into the place of one."""

    def change(file):
        del file[name]
        file.create_dataset(name, **options)

    return change


def link(name, target):
    def change(file):
        del file[name]
        file[name] = target

    return change


def make_virtual(file):
    del file[KERNEL]
    layout = h5py.VirtualLayout((4, 5), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "data", (4, 5))
    file.create_virtual_dataset(KERNEL, layout)


def forget(file):
    del file["dense"].attrs["weight_names"]


def name_at_length(file):
    # Each of them is a pointer to one text.
    names = np.array(["x" * 9] * 100, h5py.string_dtype())
    file.attrs["layer_names"] = names


def not_finite(file):
    file[KERNEL][0, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (link("dense/dense", h5py.ExternalLink("/etc/passwd", "/")), "is a link"),
        (link(KERNEL, h5py.SoftLink("/top_level_model_weights")), "is a link"),
        (
            replace(KERNEL, shape=(4, 5), dtype="f4", external=[("/etc/passwd", 0, 80)]),
            "lie outside of the file",
        ),
        (make_virtual, "lie outside of the file"),
        (replace(KERNEL, shape=(4, 5), dtype="f4", chunks=(4, 5), compression="lzf"), "a plug-in"),
        (replace(KERNEL, shape=(1 << 20, 1 << 20), dtype="f4", chunks=(64, 64)), "the network has"),
        (replace(KERNEL, shape=(4, 5), dtype="S4"), "the network has float32"),
        (not_finite, "not finite"),
        (forget, "it has no weight_names"),
        (name_at_length, "its list layer_names is none of names of a fixed length"),
        (lambda file: file.attrs.__setitem__("layer_names", [3, 4]), "none of names"),
        (
            lambda file: file.attrs.__setitem__("layer_names", np.array([b"a"] * 8193)),
            "more than 8,192 names",
        ),
        (lambda file: file.__delitem__(KERNEL), "is missing"),
        (lambda file: file.__delitem__("dense"), "there is no layer dense"),
        (
            lambda file: file.attrs.__setitem__("layer_names", np.array([b"dense"])),
            "weights of 1 layers, and the network has 2",
        ),
    ],
)
def test_what_leads_out_of_the_file_or_is_not_the_network_s_is_refused(path, change, told):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ArtifactError, match=told) as caught:
        read(path)
    assert caught.value.exit_code == 4


def describe(**changes):
    told = json.loads(TOLD.to_json())
    told["model"].update(changes)
    return json.dumps(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("[" * 100_000, "is damaged"),
        (describe(num_filters=10**9), "larger than anything in a network"),
        (describe(width_multiplier=1000), "a width_multiplier above 8"),
        (describe(input_size=[64, 10**7]), "larger than anything in a network"),
        (describe(garden={"head": {"num_filters": 1e300}}), "larger than anything"),
        (describe(backbone="none"), "is damaged"),
        (describe().replace('"it\'s"', '"disc"'), "class names appear twice"),
        (describe().replace('"format_version": 1', '"format_version": 9'), "another version"),
    ],
)
def test_a_description_that_asks_for_anything_else_is_refused(path, text, told):
    with h5py.File(path, "r+") as file:
        replace("detflow", data=np.bytes_(text.encode()))(file)
    with pytest.raises(ArtifactError, match=told) as caught:
        read_description(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"data": 3.0},
        {"data": ["a"]},
        {"shape": (), "dtype": "S99999999"},
        # Such a text lies elsewhere, and nothing but the file bounds its length.
        {"data": TOLD.to_json()},
    ],
    ids=["number", "list", "long", "variable"],
)
def test_a_description_that_is_no_text_is_refused(path, options):
    with h5py.File(path, "r+") as file:
        replace("detflow", **options)(file)
    with pytest.raises(ArtifactError, match="text detflow"):
        read_description(path)


@pytest.mark.parametrize("fault", [ConfigError("no such\npart"), ValueError("no shape")])
def test_a_network_that_cannot_be_built_is_no_damage_of_the_file(path, fault, monkeypatch):
    def fail(*_):
        raise fault

    monkeypatch.setattr(hdf5, "build_model", fail)
    with pytest.raises(ArtifactError, match=r"the network that it describes cannot be built: no s"):
        build_serving(path)
    # What the machine refuses is not the file's fault either.
    fault = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        build_serving(path)


def test_weights_alone_say_what_is_missing(path):
    with h5py.File(path, "r+") as file:
        del file["detflow"]
    with pytest.raises(ArtifactError, match="does not say what network its weights are of"):
        read_description(path)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_what_is_no_hdf5_is_refused(content, tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="not a file of weights"):
        read_description(path)
