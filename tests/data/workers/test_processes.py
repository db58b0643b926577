import os
import time
from itertools import islice

import pytest

from detflow.data.workers.processes import ProcessMap, choose_jobs, open_workers
from detflow.errors import EnvironmentFault


def name_process(number):
    time.sleep(0.002 * (number % 3))
    return number, os.getpid()


def refuse_some(number):
    if number >= 5:
        raise ValueError(number)
    return number


@pytest.mark.parametrize("chunk", [1, 7])
def test_results_come_in_order_and_this_process_works_too(chunk):
    with open_workers(2) as workers:
        # The other process imports this module first.
        list(workers(name_process, [0], chunk=1))
        numbers, processes = zip(*workers(name_process, range(100), chunk=chunk), strict=True)
    assert numbers == tuple(range(100))
    assert len(set(processes)) == 2
    assert os.getpid() in processes


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_comes_in_its_turn(jobs):
    with open_workers(jobs) as workers:
        results = workers(refuse_some, range(20), chunk=1)
        assert list(islice(results, 5)) == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="5"):
            next(results)


def test_a_worker_that_dies_is_an_environment_fault():
    with open_workers(2) as workers, pytest.raises(EnvironmentFault, match="a worker process died"):
        list(workers(os._exit, [1], chunk=1))


def test_items_are_taken_as_they_are_needed():
    taken = []
    results = ProcessMap(None, 1)(
        abs, (taken.append(number) or number for number in range(10)), chunk=4
    )
    assert next(results) == 0
    assert taken == [0]


def test_a_small_set_is_worth_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr("detflow.data.workers.processes.count_cores", lambda: 8)
    (tmp_path / "a.jpg").write_bytes(bytes(100))
    (tmp_path / "gone").symlink_to("nowhere")
    assert choose_jobs(tmp_path) == 1
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(2**26)
    assert choose_jobs(tmp_path) == 8
