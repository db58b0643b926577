"""A real cluster on this machine: a head and two nodes, each with processes of its own."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

import detflow.data.workers.ray as cluster_module
from detflow.data.making import RecordOptions, publish_records
from detflow.data.versions import find_versions
from detflow.data.workers.ray import open_cluster
from detflow.digests import digest_files
from detflow.errors import EnvironmentFault
from detflow.storage.folders import open_folder

COPIES = 4


@pytest.fixture(scope="module")
def cluster(s3_server):
    """The head has no cores and runs no tasks; each node has one, and knows the store's address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def grown(shared_data, tmp_path_factory):
    """BCCD several times over, as `set`, and what the local runner makes of it, as `local`."""
    spec = importlib.util.spec_from_file_location(
        "bench_records", Path(__file__).parents[3] / "tools" / "bench_records.py"
    )
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    root = tmp_path_factory.mktemp("grown")
    assert bench.repeat_dataset(shared_data("bccd"), root / "set", COPIES) == 364 * COPIES
    publish_records(root / "set", root / "local", RecordOptions(jobs=2))
    return root


@pytest.mark.soak
def test_a_lost_driver_is_resumed_at_its_finished_shards(cluster, grown, tmp_path):
    output = tmp_path / "out"
    arguments = [
        str(grown / "set"),
        "--output",
        str(output),
        "--runner",
        "ray",
        "--ray-address",
        cluster.address,
    ]
    driver = subprocess.Popen(
        [sys.executable, "-m", "detflow", "make-records", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    notes = []
    while not notes and driver.poll() is None:
        time.sleep(0.01)
        notes = list(tmp_path.rglob("*.done"))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not output.exists()
    finished = notes[0].parent.parent / notes[0].stem
    kept = finished.stat().st_ino
    with open_cluster(cluster.address, None) as workers:
        publish_records(grown / "set", output, RecordOptions(), workers=workers)
    assert (output / finished.name).stat().st_ino == kept
    assert digest_files(output) == digest_files(grown / "local")


@pytest.mark.soak
def test_an_error_comes_in_its_turn_and_a_worker_that_always_dies_is_an_environment_fault(
    cluster, monkeypatch
):
    monkeypatch.setattr(cluster_module, "_MAX_RETRIES", 0)
    with open_cluster(cluster.address, None, [Path("/")]) as workers:
        results = workers(int, ["1", "2", "x", "4"], chunk=4)
        assert list(islice(results, 2)) == [1, 2]
        with pytest.raises(ValueError, match="'x'"):
            next(results)
        with pytest.raises(EnvironmentFault, match="the Ray cluster failed"):
            list(workers(os._exit, [1], chunk=1))


@pytest.mark.soak
def test_nodes_read_from_an_object_store_and_write_to_it(cluster, s3_url, pictures_dir, tmp_path):
    shutil.copytree(pictures_dir, tmp_path / "set")
    dataset, output = open_folder(s3_url / "set"), open_folder(s3_url / "records")
    for path in pictures_dir.iterdir():
        dataset.write(path.name, path.read_bytes())
    publish_records(tmp_path / "set", tmp_path / "local", RecordOptions(jobs=1))
    with open_cluster(cluster.address, None) as workers:
        publish_records(dataset.location, output.location, RecordOptions(), workers=workers)
    written = {entry.path: output.digest(entry.path) for entry in output.walk(lambda name: False)}
    assert written == digest_files(tmp_path / "local")


@pytest.mark.soak
def test_a_folder_that_a_node_does_not_see_is_named(cluster, tmp_path):
    refused = pytest.raises(EnvironmentFault, match="does not see the folder")
    with refused, open_cluster(cluster.address, None, [tmp_path, tmp_path / "gone"]):
        pass


@pytest.mark.slow
def test_the_bytes_are_those_of_the_local_runner_though_nodes_die(cluster, grown, tmp_path):
    _, *worker_nodes = cluster.list_all_nodes()
    nodes = dict(zip(("checking", "writing records"), worker_nodes, strict=True))
    killed = []

    def kill_a_node(what, done, total):
        if what in nodes and total // 4 < done < total:
            node = nodes.pop(what)
            (raylet,) = node.all_processes["raylet"]
            cluster.remove_node(node, allow_graceful=False)
            killed.append((what, raylet.process.wait(timeout=10)))
            if nodes:
                # It takes its place before the other dies.
                cluster.add_node(num_cpus=1)

    with open_cluster(cluster.address, None) as workers:
        publish_records(
            grown / "set", tmp_path / "out", RecordOptions(), kill_a_node, workers=workers
        )
    assert killed == [("checking", -signal.SIGKILL), ("writing records", -signal.SIGKILL)]
    assert digest_files(tmp_path / "out") == digest_files(grown / "local")


def test_a_node_with_other_versions_does_nothing():
    results, error = cluster_module._run({**find_versions(), "pillow": "0.1"}, int, ["1"])
    assert (results, type(error)) == ([], EnvironmentFault)
    assert "'pillow': '0.1'" in str(error)
    assert cluster_module._run(find_versions(), int, ["1"]) == ([1], None)


def test_a_cluster_that_is_not_there_is_named():
    with pytest.raises(EnvironmentFault, match="no Ray cluster"), open_cluster("127.0.0.1:1", None):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(EnvironmentFault, match=r"pip install '\.\[ray\]'"),
        open_cluster(None, None),
    ):
        pass
