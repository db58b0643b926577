from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from detflow.config.backbones import BACKBONES
from detflow.config.presets import PRESETS
from detflow.config.reading import explain_config, format_config, parse_config, read_config
from detflow.config.schema import ExperimentConfig
from detflow.errors import ConfigError

MINIMAL = "data:\n  records: out\n"


def test_defaults_fill_the_rest():
    config = parse_config(MINIMAL)
    assert config.data.records == "out"
    assert config.model.input_size == (256, 256)


def test_the_resolved_text_reads_back_to_the_same():
    config = parse_config(
        MINIMAL, ["model.input_size=[192, 256]", "augment.scale=[0.5, 2]", "data.eval_split=null"]
    )
    assert parse_config(format_config(config)) == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.steps=yes", "train.steps: expected a whole number, got 'yes'"),
        ("train.steps=true", "train.steps: expected a whole number, got True"),
        ("train.steps=010", "train.steps: expected a whole number, got '010'"),
        ("train.steps='010'", "train.steps: expected a whole number, got '010'"),
        ("train.steps=1:30", "train.steps: expected a whole number, got '1:30'"),
        ("train.steps=1_000", "train.steps: expected a whole number, got '1_000'"),
        ("train.steps=0b11", "train.steps: expected a whole number, got '0b11'"),
        ("train.steps=0o17", "train.steps: expected a whole number, got '0o17'"),
        ("train.steps=2026-11-29", "train.steps: expected a whole number, got '2026-11-29'"),
        ("train.learning_rate=on", "train.learning_rate: expected a number, got 'on'"),
        ("train.learning_rate=01.5", "train.learning_rate: expected a number, got '01.5'"),
        ("model.input_size=[256, 0400]", "model.input_size: expected a whole number"),
        ("model.input_size=[256, true]", "model.input_size: expected a whole number"),
        ("model.more_input_sizes=[[256, yes]]", "model.more_input_sizes: expected a whole"),
        ("data.overfit=yes", "data.overfit: expected a whole number, got 'yes'"),
        ("train.time_budget=1:30", "train.time_budget: expected a duration"),
        ("train.time_budget=yes", "train.time_budget: expected a duration"),
        ("train.time_budget=true", "train.time_budget: expected a number, got True"),
        ("data.records=!!timestamp 2026-11-29", "the tag 'tag:yaml.org,2002:timestamp' is not"),
        ("data.records=!!int '5'", "the tag 'tag:yaml.org,2002:int' is not supported"),
        ("data.records=!own 5", "the tag '!own' is not supported"),
        ("data.records=" + "[" * 100_000, "nested more than 20 deep"),
        ("data.<<={records: a}", "unknown setting data.<<"),
    ],
)
def test_a_spelling_that_programs_read_differently_is_refused(setting, message):
    with pytest.raises(ConfigError) as error:
        parse_config(MINIMAL, [setting])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.records=yes", "yes"),
        ("data.records=010", "010"),
        ("data.records=1:30", "1:30"),
        ("data.records=2026-11-29", "2026-11-29"),
        ("data.records='1e3'", "1e3"),
        ("train.steps=0x10", 16),
        ("train.steps='600'", 600),
        ("train.steps=+7", 7),
        ("train.learning_rate=1e-3", 0.001),
        ("train.learning_rate=.5", 0.5),
        ("train.time_budget=90", 90.0),
        ("train.time_budget=1m30", 90.0),
        ("data.overfit=~", None),
        ("augment.enabled=off", False),
        ("augment.enabled=True", True),
    ],
)
def test_a_plain_spelling_is_read_and_written_back(setting, value):
    config = parse_config(MINIMAL, [setting])
    section, _, name = setting.partition("=")[0].partition(".")
    assert getattr(getattr(config, section), name) == value
    assert parse_config(format_config(config)) == config


def test_overrides_come_after_the_file_and_are_yaml():
    config = parse_config(
        "train:\n  steps: 5\n", ["data.records=a=b", "train.steps=7", "augment.enabled=no"]
    )
    assert (config.data.records, config.train.steps, config.augment.enabled) == ("a=b", 7, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MINIMAL + "train:\n  stesp: 5\n",
            r"c\.yaml:4: unknown setting train\.stesp; did you mean steps\?",
        ),
        (
            MINIMAL + "trian:\n  steps: 5\n",
            r"c\.yaml:3: unknown setting trian; did you mean train\?",
        ),
        ("train:\n  steps: 5\n", r"data: is missing|data is missing"),
        (MINIMAL + "train:\n  steps: five\n", r"c\.yaml:4: train\.steps: .*got 'five'"),
        (
            MINIMAL + "train:\n  steps: 0\n",
            r"c\.yaml:4: train\.steps: input should be greater than 0, got 0",
        ),
        (MINIMAL + "train:\n  learning_rate: .nan\n", r"c\.yaml:4: train\.learning_rate"),
        (MINIMAL + "model:\n  input_size: [100, 100]\n", r"multiples of 32"),
        (
            MINIMAL + "model:\n  min_level: 5\n  max_level: 4\n",
            r"c\.yaml:3: model: min_level 5 exceeds max_level 4",
        ),
        (MINIMAL + "model:\n  width_multiplier: 0.1\n", r"below 0\.25"),
        (
            MINIMAL + "model:\n  preset: retinanet_resnet55\n",
            r"c\.yaml:4: model\.preset: expected one of .*_resnet50,.*got '.*_resnet55'",
        ),
        (
            MINIMAL + "model:\n  preset: retinanet_resnet50\n  input_size: [200, 320]\n",
            r"128.*set it to \[256, 256\] or lower max",
        ),
        (
            MINIMAL + "model:\n  more_input_sizes: [[320, 100]]\n",
            r"more_input_sizes \[320, 100\] must be multiples of 32.*\[320, 96\]",
        ),
        (
            MINIMAL + "model:\n  more_input_sizes: [[320, 192], [256, 256]]\n",
            r"hold one size twice",
        ),
        (
            MINIMAL + "model:\n  preset: yolo_v7_tiny\n  more_input_sizes: [[320, 192]]\n",
            r"yolo takes one input_size; leave more",
        ),
        (
            MINIMAL + "model:\n  preset: faster_rcnn_resnet50\n  more_input_sizes: [[320, 192]]\n",
            r"faster_rcnn takes one input_size",
        ),
        (
            MINIMAL
            + "model:\n  preset: retinanet_spinenet49_mobile\n  more_input_sizes: [[384, 128]]\n",
            r"spinenet49_mobile takes one input_size",
        ),
        (
            MINIMAL + "model:\n  backbone: yolov7_tiny\n",
            r"does not go with architecture retinanet, which takes resnet10, .*mobilenet_v2",
        ),
        (
            MINIMAL + "model:\n  preset: yolo_v7_tiny\n  backbone: resnet18\n",
            r"resnet18 does not go with architecture yolo, which takes yolov7_nano, yolov7_tiny$",
        ),
        (
            MINIMAL + "model:\n  preset: yolo_v7_tiny\n  max_level: 4\n",
            r"levels 3 to 5; set min_level and max_level",
        ),
        (
            MINIMAL + "model:\n  backbone: spinenet49_mobile\n",
            r"one width; set width_multiplier to 1",
        ),
        (
            MINIMAL + "model:\n  preset: retinanet_spinenet49_mobile\n  min_level: 2\n",
            r"levels 3 to 7; raise min_level",
        ),
        (
            MINIMAL + "model:\n  min_level: 6\n  max_level: 6\n",
            r"end at level 5; lower min_level 6",
        ),
        (
            MINIMAL + "model:\n  garden: {head: 3}\n",
            r"c\.yaml:4: model\.garden\.head: .*dictionary, got 3",
        ),
        (MINIMAL + "model:\n  garden: [head]\n", r"c\.yaml:4: model\.garden: .*dictionary"),
        (MINIMAL + "data:\n  records: b\n", r"c\.yaml:3: data is set twice"),
        ("data: !!python/object/apply:os.system ['true']\n", r"c\.yaml:1: not valid YAML"),
        ("a: &a [1]\nb: *a\n", r"c\.yaml:2: YAML aliases"),
        ("data: [1\n", r"c\.yaml:2: not valid YAML"),
        ("- 1\n", r"c\.yaml:1: a configuration is a mapping"),
        ("\0", r"c\.yaml: not valid YAML"),
    ],
)
def test_each_mistake_is_named_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(text, path="c.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override", ["train.steps", "=5", "train..steps=5", "train.steps.x=5", "train.stepps=5"]
)
def test_a_broken_override_is_named(override):
    with pytest.raises(ConfigError):
        parse_config(MINIMAL + "train:\n  steps: 5\n", [override])


def test_a_missing_file_and_a_huge_one_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "huge.yaml").write_text("#" * (1 << 21))
    with pytest.raises(ConfigError, match="at most"):
        read_config(tmp_path / "huge.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_config(tmp_path / "binary.yaml")


SETTINGS = [name.split(".") for name, _, _ in explain_config()]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 600),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([*BACKBONES, *PRESETS, "12m", "2GB", "sgd", "a: b", "~"]),
    st.lists(st.integers(0, 512), max_size=3),
)


# A machine that others use too may take long for any example.
@given(st.lists(st.tuples(st.sampled_from(SETTINGS), VALUES), max_size=4), st.text(max_size=20))
@example([], "")
@example([(["train", "steps"], 7), (["data", "train_split"], "\x85: \N{BOM}é")], "# of a user")
def test_any_text_is_a_configuration_that_reads_back_or_an_error_of_one_line(chosen, tail):
    values = {"data": {"records": "out"}}
    for (section, name), value in chosen:
        values.setdefault(section, {})[name] = value
    text = yaml.safe_dump(values)
    assert chosen or parse_config(text) == parse_config(MINIMAL)
    for content in (text, text + tail, tail):
        config, error = parse(content)
        if error is None:
            assert parse_config(format_config(config)) == config
            assert isinstance(config.data.records, str)
        else:
            assert error
            assert "\n" not in error


def parse(text):
    try:
        return parse_config(text), None
    except ConfigError as error:
        return None, str(error)


def test_every_setting_is_documented_and_its_default_is_valid():
    rows = list(explain_config())
    assert all(description.endswith(".") for _, _, description in rows)
    assert not any("\n" in description for _, _, description in rows)
    text: dict[str, dict[str, object]] = {}
    for name, default, _ in rows:
        section, key = name.split(".")
        text.setdefault(section, {})[key] = (
            "out" if default == "required" else yaml.safe_load(default)
        )
    assert parse_config(yaml.safe_dump(text)) == parse_config(MINIMAL)
    assert len(rows) == sum(
        len(field.annotation.model_fields) for field in ExperimentConfig.model_fields.values()
    )


def test_the_names_that_a_setting_takes_are_listed():
    descriptions = {name: description for name, _, description in explain_config()}
    for name, known in [
        ("model.backbone", BACKBONES),
        ("model.preset", PRESETS),
        ("train.optimizer", ["adamw", "sgd"]),
    ]:
        assert descriptions[name].endswith(f" One of {', '.join(known)}.")
    assert "One of" not in descriptions["train.steps"]


def test_paths_start_at_the_configuration_and_those_of_overrides_where_the_user_is(tmp_path):
    folder = tmp_path / "here"
    (folder / "weights").mkdir(parents=True)
    path = folder / "c.yaml"

    def read(records, weights="null", *overrides):
        path.write_text(f"data: {{records: {records}}}\ntrain: {{init_from: {weights}}}\n")
        config = read_config(path, overrides)
        return config.data.records, config.train.init_from

    assert read("../records") == (str(tmp_path / "records"), None)
    assert read("r", "../runs/a") == (str(folder / "r"), str(tmp_path / "runs/a"))
    assert read("r", "weights")[1] == str(folder / "weights")
    assert read("r", "resnet50-imagenet")[1] == "resnet50-imagenet"
    assert read("/r", "https://host/a.tar.gz") == ("/r", "https://host/a.tar.gz")
    assert read("s3://bucket/r")[0] == "s3://bucket/r"
    assert read("r", "null", "data.records=elsewhere")[0] == "elsewhere"


def test_a_relative_configuration_keeps_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "c.yaml").write_text("data: {records: ../records/pets}")
    assert read_config(Path("configs/c.yaml")).data.records == "records/pets"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=many", "--set train.steps=many: train.steps: "),
        ("train.stepz=1", "--set train.stepz=1: unknown setting train.stepz; did you mean steps?"),
        (
            "model.input_size=[100,100]",
            "--set model.input_size=[100,100]: model: input_size [100, 100] must be multiples",
        ),
        ("train.steps=[", "--set train.steps=[: not valid YAML"),
        ('train.time_budget="12x"', "--time-budget 12x: train.time_budget: expected a duration"),
    ],
)
def test_a_wrong_value_is_blamed_on_the_flag_that_gave_it(tmp_path, override, message):
    path = tmp_path / "c.yaml"
    path.write_text(MINIMAL + "train:\n  steps: 7\n")
    with pytest.raises(ConfigError) as caught:
        read_config(path, [override], {"train.time_budget": "--time-budget"})
    assert str(caught.value).startswith(message)
    assert "c.yaml" not in str(caught.value)


def test_a_wrong_value_of_the_file_is_still_the_file_s(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(MINIMAL + "train:\n  steps: many\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:4: train\.steps: "):
        read_config(path, ["train.batch_size=4"])
