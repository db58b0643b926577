import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detflow.config.schema import TrainConfig
from detflow.errors import ArtifactError
from detflow.inference.trained import load_trained_model
from detflow.models.build import build_model as build
from detflow.models.weights.restore import restore_initial_weights
from detflow.models.weights.sources import InitialWeights, find_initial_weights
from detflow.runs.run_dir import RunDir
from detflow.training.preflight import prepare_start
from detflow.training.recipe import train

pytestmark = pytest.mark.tf


def values(model):
    return {
        name: [variable.numpy() for variable in part.variables]
        for name, part in model.parts.items()
    }


def assert_same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


CLASSES = ("a", "b", "c")


def from_checkpoint(prefix, classes=None):
    return InitialWeights("published", prefix, kind="checkpoint", digests={}, classes=classes)


@pytest.fixture(scope="module")
def published(tiny_config):
    """A model of three classes, its weights unlike any initial ones."""
    model = build(tiny_config().model, 3)
    random = np.random.default_rng(0)
    for variable in model.network.variables:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture(scope="module")
def prefix(published, tmp_path_factory):
    """The model as Model Garden's trainer saves one, of its own network."""
    path = tmp_path_factory.mktemp("published") / "ckpt-7"
    tf.train.Checkpoint(
        global_step=tf.Variable(7), model=published.network, **published.parts
    ).write(str(path))
    return path


@pytest.fixture(scope="module")
def initialised(tiny_config):
    """A new model and its values: building Model Garden's takes longer than all that fills it."""
    tf_keras.utils.set_random_seed(5)
    model = build(tiny_config().model, 3)
    return model, model.network.get_weights()


@pytest.fixture
def fresh(initialised):
    model, initial = initialised
    model.network.set_weights(initial)
    return model


CLASSIFIER = ["head/_classifier/kernel", "head/_classifier/bias"]


@pytest.mark.whole_network
def test_a_model_of_the_same_shape_and_classes_takes_all(published, prefix, fresh):
    report = restore_initial_weights(from_checkpoint(prefix, CLASSES), fresh, CLASSES)
    for name, part in published.parts.items():
        assert report.parts[name].restored == report.parts[name].total == len(part.variables)
        assert_same(values(fresh)[name], values(published)[name])
    lines = list(report.lines())
    assert len(lines) == 1
    assert lines[0].startswith("initial weights from published: backbone ")


@pytest.mark.whole_network
def test_nobody_knows_the_classes_of_a_published_classifier_whatever_its_shape(
    published, prefix, fresh
):
    before = values(fresh)["head"]
    report = restore_initial_weights(from_checkpoint(prefix), fresh, CLASSES)
    assert report.parts["head"].other_classes == CLASSIFIER
    assert report.parts["head"].restored == report.parts["head"].total - 2
    ours = dict(zip(named(fresh.parts["head"]), values(fresh)["head"], strict=True))
    initial = dict(zip(named(fresh.parts["head"]), before, strict=True))
    kernel = next(name for name in ours if name.endswith("scores/kernel:0"))
    np.testing.assert_array_equal(ours[kernel], initial[kernel])
    assert list(report.lines())[1] == (
        "left as initialised, the classes there are others, or nobody knows them: "
        "head/_classifier/kernel, head/_classifier/bias"
    )
    assert report.record()["fresh_classes"] == list(CLASSES)


def named(part):
    return [variable.name for variable in part.variables]


@pytest.mark.whole_network
def test_classes_are_taken_by_name_wherever_they_stand(published, prefix, tiny_config):
    model = build(tiny_config().model, 4)
    initial = classifier_of(model)
    weights = from_checkpoint(prefix, ("cat", "dog", "cow"))
    report = restore_initial_weights(weights, model, ("horse", "cow", "cat", "pig"))
    # One anchor a cell: the last axis has one entry a class.
    for ours, before, theirs in zip(
        classifier_of(model), initial, classifier_of(published), strict=True
    ):
        np.testing.assert_array_equal(ours[..., 0], before[..., 0])
        np.testing.assert_array_equal(ours[..., 1], theirs[..., 2])
        np.testing.assert_array_equal(ours[..., 2], theirs[..., 0])
        np.testing.assert_array_equal(ours[..., 3], before[..., 3])
    head = report.parts["head"]
    assert head.restored == head.total
    assert list(report.lines())[1] == (
        "classes taken by name: cow, cat; as initialised: horse, pig; not needed: dog"
    )
    assert report.record()["fresh_classes"] == ["horse", "pig"]


def classifier_of(model):
    return [
        variable.numpy()
        for variable in model.parts["head"].variables
        if "/scores/" in variable.name
    ]


def test_a_run_whose_classes_stand_in_another_order_gives_each_class_its_own_rows(
    model_dir, trained
):
    source = trained
    model = build(source.config.model, 3)
    names = source.label_map.names
    order = (names[2], names[0], names[1])
    weights = find_initial_weights(TrainConfig(init_from=str(model_dir)))
    assert weights.classes == names
    restore_initial_weights(weights, model, order)
    for ours, theirs in zip(classifier_of(model), classifier_of(source.serving.model), strict=True):
        np.testing.assert_array_equal(ours, theirs[..., [2, 0, 1]])


def test_an_export_gives_the_weights_of_its_checkpoint(model_dir, artifact_dir, tmp_path):
    source = load_trained_model(model_dir)
    model = build(source.config.model, 3)
    weights = find_initial_weights(TrainConfig(init_from=str(artifact_dir)))
    assert weights.classes == source.label_map.names
    assert weights.terms == {
        "records": source.state.record.data_fingerprint,
        "learnt": [[source.state.record.data_fingerprint, "train"]],
        "begun_with": None,
    }
    restore_initial_weights(weights, model, weights.classes)
    for name, part in values(source.serving.model).items():
        assert_same(values(model)[name], part)


@pytest.mark.whole_network
def test_a_backbone_alone_below_model_is_enough(published, fresh, tmp_path):
    tf.train.Checkpoint(model=tf.train.Checkpoint(backbone=published.parts["backbone"])).write(
        str(tmp_path / "ckpt")
    )
    before = values(fresh)
    report = restore_initial_weights(from_checkpoint(tmp_path / "ckpt"), fresh, CLASSES)
    assert_same(values(fresh)["backbone"], values(published)["backbone"])
    assert_same(values(fresh)["head"], before["head"])
    assert (report.parts["head"].restored, len(report.parts["head"].missing)) == (
        0,
        len(before["head"]),
    )
    assert "not there: decoder/" in list(report.lines())[1]


@pytest.mark.whole_network
def test_nothing_that_fits_is_an_error(fresh, tmp_path):
    tf.train.Checkpoint(backbone=tf.train.Checkpoint(kernel=tf.Variable(1.0))).write(
        str(tmp_path / "ckpt")
    )
    with pytest.raises(ArtifactError, match=r"nothing in it fits the model: .*backbone 0 of"):
        restore_initial_weights(from_checkpoint(tmp_path / "ckpt"), fresh, CLASSES)


@pytest.mark.whole_network
def test_numbers_that_are_not_finite_are_refused(published, fresh, tmp_path):
    variable = published.parts["backbone"].variables[0]
    value = variable.numpy()
    variable.assign(value * np.nan)
    tf.train.Checkpoint(**published.parts).write(str(tmp_path / "ckpt"))
    variable.assign(value)
    with pytest.raises(ArtifactError, match="not finite"):
        restore_initial_weights(from_checkpoint(tmp_path / "ckpt"), fresh, CLASSES)


@pytest.mark.parametrize("damage", ["index", "data", "shard"])
@pytest.mark.whole_network
def test_a_damaged_checkpoint_is_named(prefix, fresh, tmp_path, damage):
    copy = shutil.copytree(prefix.parent, tmp_path / "copy")
    index, data = copy / "ckpt-7.index", copy / "ckpt-7.data-00000-of-00001"
    if damage == "index":
        index.write_bytes(index.read_bytes()[:-100])
    elif damage == "data":
        data.write_bytes(data.read_bytes()[:1000])
    else:
        data.unlink()
    with pytest.raises(ArtifactError, match=r"copy.ckpt-7: "):
        restore_initial_weights(from_checkpoint(copy / "ckpt-7"), fresh, CLASSES)


@pytest.mark.whole_network
def test_a_hostile_folder_changes_nothing_outside(prefix, fresh, tmp_path):
    copy = shutil.copytree(prefix.parent, tmp_path / "copy")
    victim = tmp_path / "victim.index"
    victim.write_bytes(b"precious")
    state = "".join(f'all_model_checkpoint_paths: "{tmp_path / "victim"}"\n' for _ in range(9))
    (copy / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path / "victim"}"\n{state}')
    restore_initial_weights(find_initial_weights(TrainConfig(init_from=str(copy))), fresh, CLASSES)
    assert victim.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "victim.index"]


def test_a_run_starts_from_an_earlier_one_keeps_what_is_frozen_and_goes_on_without_it(
    model_dir, tiny_config, tmp_path, capfd
):
    source = shutil.copytree(model_dir, tmp_path / "earlier")
    earlier = load_trained_model(source)
    backbone = [variable.numpy() for variable in earlier.serving._model.parts["backbone"].variables]
    settings = {
        "model_num_filters": 16,
        "model_max_level": 5,
        "train_freeze": "[backbone]",
        "train_learning_rate": 1e-9,
    }
    settings |= {"data_eval_split": "null", "checkpoint_every_steps": 1}
    config = tiny_config(train_init_from=source, train_steps=2, **settings)

    def run_training():
        with RunDir(tmp_path / "run").locked() as run:
            return train(run, prepare_start(config, run))

    run_training()
    text = capfd.readouterr().err
    assert (
        f"initial weights from {source}: backbone {len(backbone)} of {len(backbone)} variables"
        in text
    )
    assert "classes as initialised: dark, light; not needed: disc" in text
    assert "parameters train, backbone frozen" in text
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["initial_weights"]
    assert recorded["files"] == earlier.state.files
    assert recorded["restored"]["backbone"]["restored"] == len(backbone)

    for step in (1, 2):
        reader = tf.train.load_checkpoint(str(tmp_path / "run" / f"ckpt-{step}" / "ckpt"))
        averages = [
            reader.get_tensor(f"average/averages/{n}/.ATTRIBUTES/VARIABLE_VALUE")
            for n in range(len(backbone))
        ]
        assert_same(averages, backbone)
    trained = load_trained_model(tmp_path / "run" / "ckpt-2").serving._model
    assert_same([variable.numpy() for variable in trained.parts["backbone"].variables], backbone)
    for ours, theirs in zip(
        trained.parts["decoder"].trainable_variables,
        earlier.serving._model.parts["decoder"].trainable_variables,
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    slots = {
        tuple(shape)
        for name, shape in reader.get_variable_to_shape_map().items()
        if name.startswith("optimizer/")
    }
    kernels = {part: trained.parts[part].variables[0] for part in ("decoder", "backbone")}
    assert tuple(kernels["decoder"].shape) in slots
    assert tuple(kernels["backbone"].shape) not in slots

    shutil.rmtree(source)
    shutil.rmtree(tmp_path / "run" / "ckpt-2")
    run_training()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["initial_weights"] == recorded
    again = tf.train.load_checkpoint(str(tmp_path / "run" / "ckpt-2" / "ckpt"))
    for name in reader.get_variable_to_shape_map():
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
            np.testing.assert_array_equal(
                reader.get_tensor(name), again.get_tensor(name), err_msg=name
            )
