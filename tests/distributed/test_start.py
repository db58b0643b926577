"""Which way a training is started; nothing is started here."""

import sys

import pytest

from detflow.config.reading import parse_config
from detflow.distributed import launcher, ray
from detflow.distributed.parameter_servers import server
from detflow.distributed.start import Processes, TrainCommand, start_training
from detflow.distributed.topology import TF_CONFIG, format_topology
from detflow.errors import ConfigError

pytestmark = pytest.mark.tf

COMMAND = TrainCommand(("--config=c.yaml", "--set=train.steps=3"), ("--model-dir=/run",))
CLUSTER = {"chief": ["a:1"], "ps": ["b:1"], "worker": ["c:1"]}


@pytest.fixture
def start(monkeypatch):
    """Starts with fakes in place of processes: → exit code, what was called."""
    monkeypatch.delenv(TF_CONFIG, raising=False)
    called = []

    def fake(name, code):
        def call(*arguments, **settings):
            called.append((name, *arguments, settings))
            return code

        return call

    monkeypatch.setattr(launcher, "run_workers", fake("workers", 3))
    monkeypatch.setattr(ray, "run_on_ray", fake("ray", 4))
    monkeypatch.setattr(server, "serve_task", fake("server", 15))

    def run(processes=Processes(), topology=None):  # noqa: B008  It is immutable.
        if topology:
            monkeypatch.setenv(TF_CONFIG, format_topology(CLUSTER, *topology))
        config = parse_config("data: {records: some/records}", ["train.batch_size=8"])
        return start_training(config, processes, COMMAND, fake("here", 0), print), called

    return run


def test_one_process_trains_here(start):
    assert start() == (0, [("here", None, {})])


def test_a_server_serves_and_its_chief_trains(start):
    code, called = start(topology=("ps", 0))
    assert (code, called[0][0]) == (128 + 15, "server")
    code, called = start(topology=("chief", 0))
    assert (code, called[1][0], str(called[1][1])) == (0, "here", "chief 0")


def test_workers_of_this_machine_get_the_same_command(start):
    code, called = start(Processes(workers=2, parameter_servers=1, max_restarts=7))
    command = [sys.executable, "-m", "detflow", "train"]
    command += ["--model-dir=/run", "--config=c.yaml", "--set=train.steps=3"]
    assert code == 3
    assert called == [("workers", command, 2, 7, print, {"num_parameter_servers": 1})]


def test_workers_on_ray_get_the_configuration_with_absolute_paths(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, called = start(Processes(workers=2, runner="ray", ray_address="head:1"))
    name, config, options, settings = called[0]
    assert (code, name, options) == (4, "ray", COMMAND.options)
    assert config.data.records == str(tmp_path / "some/records")
    assert settings == {
        "num_workers": 2,
        "max_restarts": 3,
        "address": "head:1",
        "announce": print,
    }


@pytest.mark.parametrize(
    ("processes", "topology", "message"),
    [
        (Processes(workers=2), ("worker", 0), "TF_CONFIG says .* leave out --workers"),
        (Processes(parameter_servers=1, runner="ray"), None, "--parameter-servers goes with"),
        (Processes(workers=3), None, "batch_size 8 cannot be split evenly over 3"),
        (Processes(workers=3, runner="ray"), None, "batch_size 8 cannot be split evenly"),
    ],
)
def test_what_does_not_go_together_is_refused(start, processes, topology, message):
    with pytest.raises(ConfigError, match=message):
        start(processes, topology)


def test_a_debugged_command_is_debugged_everywhere():
    command = TrainCommand(("--config=c",), (), is_debug=True)
    assert command.arguments()[1:] == ["-m", "detflow", "--debug", "train", "--config=c"]
