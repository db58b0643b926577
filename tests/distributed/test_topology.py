import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.distributed.topology import (
    Topology,
    format_topology,
    parse_topology,
    read_topology,
    require_divisible,
    split_address,
)
from detflow.errors import ConfigError

WORKERS = ["10.0.0.1:2222", "10.0.0.2:2222", "[fe80::1]:2222"]


def config(cluster, job="worker", index=0, **others):
    return json.dumps({"cluster": cluster, "task": {"type": job, "index": index}, **others})


@pytest.mark.parametrize(
    ("cluster", "job", "index", "num_workers", "is_chief"),
    [
        ({"worker": WORKERS}, "worker", 0, 3, True),
        ({"worker": WORKERS}, "worker", 2, 3, False),
        ({"chief": WORKERS[:1], "worker": WORKERS[1:]}, "chief", 0, 3, True),
        ({"chief": WORKERS[:1], "worker": WORKERS[1:]}, "worker", 0, 3, False),
        # Where there are parameter servers the chief does not train.
        ({"chief": WORKERS[:1], "worker": WORKERS[1:2], "ps": WORKERS[2:]}, "chief", 0, 1, True),
        ({"chief": WORKERS[:1], "worker": WORKERS[1:2], "ps": WORKERS[2:]}, "worker", 0, 1, False),
        ({"chief": WORKERS[:1], "worker": WORKERS[1:2], "ps": WORKERS[2:]}, "ps", 0, 1, False),
    ],
)
def test_a_process_learns_its_place(cluster, job, index, num_workers, is_chief, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", format_topology(cluster, job, index))
    topology = read_topology()
    assert topology.has_parameter_servers == ("ps" in cluster)
    assert (topology.num_workers, topology.is_chief, topology.job, topology.index) == (
        num_workers,
        is_chief,
        job,
        index,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "{}",
        '{"cluster": {}}',
        # Vertex AI and Kubeflow describe a single process like this.
        config({"chief": ["one:2222"]}, "chief", environment="cloud", trial="1"),
    ],
)
def test_a_process_without_others_trains_alone(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_topology() is None


def test_an_index_may_be_text():
    assert parse_topology(config({"worker": WORKERS}, "worker", "1")).index == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "expected a JSON object"),
        (" " * (1 << 20) + "{}", "longer than"),
        ('{"cluster": ["a:1"]}', "cluster must be an object"),
        (config({"worker": "a:1"}), "cluster.worker must be a list"),
        (config({"worker": ["a:1", 7]}), "cluster.worker has 7, expected host:port"),
        (config({"worker": ["a:1", "b"]}), "has 'b', expected host:port"),
        (config({"worker": ["a:1", "b:65536"]}), "has 'b:65536'"),
        (config({"worker": ["a:1", "b:0"]}), "has 'b:0'"),
        (config({"worker": ["a:1", "grpc://b:1"]}), "has 'grpc://b:1'"),
        (config({"worker": ["a:1", "b:1\n"]}), r"has 'b:1\\n'"),
        (config({"worker": ["a:1", "a:1"]}), "has a:1 twice"),
        (
            config({"worker": ["a:1"], "evaluator": ["b:1"]}),
            "evaluator.*leave it out: the chief evaluates",
        ),
        (config({"master": ["a:1"], "worker": ["b:1"]}), "has the job 'master'"),
        (config({"chief": ["a:1", "b:1"]}, "chief"), "more than one chief"),
        (
            config({"worker": ["a:1"], "ps": ["b:1"]}, "ps"),
            "has parameter servers and no chief; add a chief",
        ),
        (
            config({"chief": ["a:1"], "ps": ["b:1"]}, "ps"),
            "has parameter servers and no worker; add workers",
        ),
        (
            config({"chief": ["a:1"], "worker": [], "ps": ["b:1"]}, "ps"),
            "has parameter servers and no worker; add workers",
        ),
        (
            config({"chief": ["a:1"], "worker": ["c:1"], "ps": ["b:1"]}, "ps", 1),
            "task.index is 1, the cluster has 1 of ps",
        ),
        (config({"chief": ["a:1"], "worker": ["c:1"], "ps": ["c:1"]}, "ps"), "has c:1 twice"),
        (
            config({"chief": ["a:1"], "worker": ["c:1"], "ps": ["d"]}, "ps"),
            "cluster.ps has 'd', expected host:port",
        ),
        (config({"chief": [], "worker": []}), "nobody to train"),
        (
            config({"worker": ["a:1", "b:1"]}, "chief"),
            "task.type is 'chief', the cluster has worker",
        ),
        (
            config({"worker": ["a:1", "b:1"]}, index=2),
            "task.index is 2, the cluster has 2 of worker",
        ),
        (config({"worker": ["a:1", "b:1"]}, index=True), "task.index is True"),
        (config({"worker": ["a:1", "b:1"]}, index=-1), "task.index is -1"),
        (json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}), "task is missing"),
        (config({"worker": ["a:1", "b:1"]}, rpc_layer="grpc+verbs"), "rpc_layer"),
    ],
)
def test_what_tf_config_may_not_say_is_refused(text, message):
    with pytest.raises(ConfigError, match=rf"^TF_CONFIG: .*{message}"):
        parse_topology(text)


def test_an_address_is_split_at_its_port():
    assert [split_address(address) for address in WORKERS[1:]] == [
        ("10.0.0.2", 2222),
        ("fe80::1", 2222),
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
ADDRESSES = st.lists(st.sampled_from(["a:1", "b:2", "c:3", "[::1]:4"]) | JSON, max_size=3)


@given(
    st.fixed_dictionaries(
        {
            "cluster": st.dictionaries(
                st.sampled_from(["chief", "worker", "ps", "evaluator"]), ADDRESSES, max_size=4
            )
            | JSON,
            "task": st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["chief", "worker", "ps"]) | JSON,
                    "index": st.integers(-1, 2) | JSON,
                }
            )
            | JSON,
        },
        optional={"rpc_layer": st.just("grpc") | JSON},
    )
    | JSON
)
def test_whatever_tf_config_says_it_is_understood_whole_or_refused(content):
    try:
        topology = parse_topology(json.dumps(content))
    except ConfigError:
        return
    if topology is None:
        return
    cluster = topology.cluster
    assert set(cluster) <= {"chief", "worker", "ps"}
    assert all(0 < split_address(host)[1] < 1 << 16 for hosts in cluster.values() for host in hosts)
    assert 0 <= topology.index < len(cluster[topology.job])
    tasks = [
        Topology(cluster, job, index)
        for job, hosts in cluster.items()
        for index in range(len(hosts))
    ]
    assert sum(task.is_chief for task in tasks) == 1
    if topology.has_parameter_servers:
        assert len(cluster["chief"]) == 1
        assert topology.num_workers == len(cluster["worker"]) > 0
    else:
        assert topology.num_workers == len(tasks) > 1


@pytest.mark.parametrize(
    ("size", "replicas", "near"), [(8, 3, "6 or 9"), (2, 3, "3"), (7, 4, "4 or 8")]
)
def test_a_batch_that_cannot_be_split_names_those_that_can(size, replicas, near):
    require_divisible(6, 3)
    with pytest.raises(
        ConfigError,
        match=rf"batch_size {size} cannot be split .* over {replicas} replicas; set it to {near},",
    ):
        require_divisible(size, replicas)
