import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from detflow.data.records.tfrecord import frame_record
from detflow.exporting.effort import count_minutes


def write_events(folder, suffix, times):
    """Events at seconds by step."""
    events = [
        Event(wall_time=seconds, step=step, summary=Summary()) for step, seconds in times.items()
    ]
    framed = b"".join(frame_record(event.SerializeToString()) for event in events)
    (folder / f"events.out.tfevents{suffix}").write_bytes(framed)


def test_each_process_counts_from_its_first_event_to_its_last_of_the_checkpoint(tmp_path):
    write_events(tmp_path, ".a", {0: 1000.0, 20: 1060.0})
    # A day lies between, and the run went on behind the checkpoint.
    write_events(tmp_path, ".b", {40: 90_000.0, 60: 90_030.0, 80: 99_000.0})
    assert count_minutes(tmp_path, 60) == pytest.approx(1.5)
    assert count_minutes(tmp_path, 20) == pytest.approx(1.0)


def test_a_torn_end_costs_only_the_last_event(tmp_path):
    write_events(tmp_path, ".a", {0: 0.0, 20: 60.0, 40: 120.0})
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert count_minutes(tmp_path, 99) == pytest.approx(1.0)


def test_without_events_nobody_knows(tmp_path):
    assert count_minutes(tmp_path / "none", 9) is None
