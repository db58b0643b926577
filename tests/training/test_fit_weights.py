import sys
from types import SimpleNamespace

import pytest

from detflow.config.reading import parse_config
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.models.weights.sources import InitialWeights
from detflow.runs.run_dir import RunDir
from detflow.training import fit_weights
from detflow.training.fit_weights import choose_beginning


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("DETFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DETFLOW_OFFLINE", raising=False)

    def refuse(*arguments):
        raise AssertionError(f"asked the network for {arguments}")

    monkeypatch.setattr(fit_weights, "find_initial_weights", refuse)
    monkeypatch.setattr(fit_weights, "fetch_files", refuse)


@pytest.mark.parametrize(
    "source", ["mobilenet-v2-openimages", "resnet50-imagenet", "https://example.org/a.tar.gz"]
)
@pytest.mark.parametrize("by_variable", [True, False])
def test_offline_holds_for_weights_that_were_asked_for_too(source, by_variable, monkeypatch):
    if by_variable:
        monkeypatch.setenv("DETFLOW_OFFLINE", "1")
    with pytest.raises(EnvironmentFault, match=f"{source} is not on this machine") as caught:
        choose_beginning(source, offline=not by_variable, num_classes=3)
    assert "weights fetch" in caught.value.remedy


def test_offline_takes_what_is_here(monkeypatch):
    monkeypatch.undo()
    name = "efficientnet-lite0-imagenet"
    assert choose_beginning(name, offline=True, num_classes=3).source == name
    monkeypatch.setattr(fit_weights, "is_here", lambda name: True)
    asked = []
    monkeypatch.setattr(fit_weights, "find_initial_weights", asked.append)
    with pytest.raises(ConfigError, match="names nothing"):
        choose_beginning("mobilenet-v2-openimages", offline=True, num_classes=3)
    assert [config.init_from for config in asked] == ["mobilenet-v2-openimages"]


LITE0, OPEN_IMAGES = "efficientnet-lite0-imagenet", "mobilenet-v2-openimages"


@pytest.mark.parametrize(
    ("num_classes", "offline", "had", "taken"),
    [
        # What is had: what a package brings, what is in the cache, what the network gives.
        (3, False, {"package", "network"}, OPEN_IMAGES),
        (12, False, {"package", "network"}, LITE0),
        (3, True, {"package", "cache"}, LITE0),
        (3, False, {"package"}, LITE0),
        # Without the package the detector's backbone is better than none.
        (12, False, {"network"}, OPEN_IMAGES),
        (12, True, {"cache"}, OPEN_IMAGES),
        (3, True, {"cache"}, OPEN_IMAGES),
        (12, True, {"network"}, None),
        (12, False, set(), None),
        (3, False, set(), None),
    ],
)
def test_the_choice_is_among_what_can_be_had(num_classes, offline, had, taken, monkeypatch):
    def need(what):
        if what not in had:
            raise EnvironmentFault(f"there is no {what}")

    def fetch(*arguments):
        assert not offline
        need("network")

    monkeypatch.setattr(fit_weights, "find_initial_weights", lambda config: need("package"))
    monkeypatch.setattr(fit_weights, "fetch_files", fetch)
    monkeypatch.setattr(fit_weights, "is_here", lambda name: "cache" in had)
    begun = choose_beginning(None, offline=offline, num_classes=num_classes)
    assert begun.source == taken
    if "package" not in had and taken != OPEN_IMAGES:
        assert begun.why.endswith("there is no package: from scratch")


def test_nothing_is_claimed_of_a_file_that_is_of_a_known_network_alone(tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "mine.pth").write_bytes(b"tuned")
    monkeypatch.setattr(InitialWeights, "read_convolutions", lambda self: [])
    begun = choose_beginning(str(tmp_path / "mine.pth"), offline=True, num_classes=3)
    assert (begun.model, begun.is_mobile) == ({"preset": "retinanet_lite0"}, True)
    assert begun.why.endswith(
        "nobody knows its data and its licence: state it as train.init_licence"
    )


@pytest.mark.parametrize("name", ["mine.pth", "mine.tflite"])
@pytest.mark.parametrize("content", [b"", b"TFL3 cut"])
def test_a_file_that_is_no_such_network_is_refused(name, content, tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        choose_beginning(str(tmp_path / name), offline=True, num_classes=3)


@pytest.mark.parametrize(
    "fault",
    [
        EnvironmentFault("there is no network"),
        ConfigError("the address gives 404"),
        ArtifactError("the SHA-256 is not that of the file"),
    ],
)
def test_whatever_the_address_answers_init_takes_what_is_here(fault, monkeypatch):
    def fetch(*arguments):
        raise fault

    monkeypatch.setattr(fit_weights, "find_initial_weights", lambda config: None)
    monkeypatch.setattr(fit_weights, "fetch_files", fetch)
    monkeypatch.setattr(fit_weights, "is_here", lambda name: False)
    begun = choose_beginning(None, offline=False, num_classes=3)
    assert begun.source == LITE0
    assert begun.why.endswith("a detector's weights could not be fetched")


def begin_from(settings, tmp_path, monkeypatch, run_record, save_state):
    monkeypatch.undo()
    config = parse_config("data: {records: r}", [f"model.{setting}" for setting in settings])
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    record = run_record(config)
    run.write_record(record)
    save_state(run, record, best_step=8)
    return choose_beginning(str(run.path), offline=True, num_classes=3)


def test_a_run_brings_the_model_that_its_weights_fit(tmp_path, monkeypatch, run_record, save_state):
    settings = ("preset=retinanet_lite0", "num_filters=48", "input_size=[320,320]", "max_level=6")
    begun = begin_from((*settings, "anchor_scale=3"), tmp_path, monkeypatch, run_record, save_state)
    assert begun.source == str(tmp_path / "run")
    # Canvas and anchors are fitted to the new images.
    assert begun.model == {"preset": "retinanet_lite0", "num_filters": 48, "max_level": 6}
    assert begun.is_mobile
    assert "classes are taken by name" in begun.why


def test_several_anchors_a_cell_stay_as_they_are(tmp_path, monkeypatch, run_record, save_state):
    settings = ("aspect_ratios=[0.5,2]", "anchor_scale=3", "width_multiplier=0.25")
    begun = begin_from(settings, tmp_path, monkeypatch, run_record, save_state)
    assert begun.model == {
        "preset": "retinanet_resnet10",
        "width_multiplier": 0.25,
        "anchor_scale": 3.0,
        "aspect_ratios": [0.5, 2.0],
        "anchors_per_octave": 1,
    }
    assert not begun.is_mobile


@pytest.mark.parametrize("found", ["retinanet_mobilenet_v2", None])
def test_a_checkpoint_of_tensorflow_is_looked_into(found, tmp_path, monkeypatch):
    monkeypatch.undo()
    for name in ("ckpt-1.index", "ckpt-1.data-00000-of-00001"):
        (tmp_path / name).write_text(name)
    monkeypatch.setitem(
        sys.modules,
        "detflow.models.weights.fitting",
        SimpleNamespace(find_fitting_preset=lambda weights: found),
    )
    if found is None:
        with pytest.raises(ConfigError, match="nobody knows which model these weights fit"):
            choose_beginning(str(tmp_path), offline=True, num_classes=3)
        return
    begun = choose_beginning(str(tmp_path), offline=True, num_classes=3)
    assert (begun.model, begun.is_mobile) == ({"preset": found}, True)
    assert "nobody knows its data and its licence" in begun.why
