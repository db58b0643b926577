"""The loop with steps that cost nothing. This file imports no TensorFlow."""

import signal
import subprocess
import sys
import threading

import pytest
from fakes import At, FakeSteps, Listener, course_of

from detflow.runs.plan import Plan
from detflow.training.loop import Action, run_loop


def run(course, *actions, steps=None, **settings):
    steps = steps or FakeSteps()
    run_loop(steps, lambda step: step, actions, course, **settings)
    return steps


def stop_at(number, signum=signal.SIGTERM):
    return At(number, lambda course: course.stop.handle(signum, None))


def steps_of(listener):
    return [what[1] for what in listener.heard if what[0] == "step"]


def test_an_action_hears_every_step_rests_where_it_is_due_and_is_closed():
    listener = Listener(every=2)
    steps = run(course_of(5), listener)
    assert steps.batches == [0, 1, 2, 3, 4]
    assert listener.heard == [
        ("start", 0),
        ("step", 1),
        ("step", 2),
        ("rest", 2),
        ("step", 3),
        ("step", 4),
        ("rest", 4),
        ("step", 5),
        # The run's last step ends every interval.
        ("rest", 5),
        ("end", 5),
        ("close",),
    ]


def test_a_resumed_run_goes_on_with_its_next_step_and_rests_first_where_that_is_due():
    listener = Listener(every=2)
    assert run(course_of(6, first=4), listener).batches == [4, 5]
    assert listener.heard[:3] == [("start", 4), ("rest", 4), ("step", 5)]


def test_actions_are_called_in_their_order():
    heard = []
    one, two = Listener(every=1), Listener(every=1)
    one.heard = two.heard = heard
    run(course_of(1), one, two)
    assert heard == [
        *[("start", 0)] * 2,
        *[("step", 1)] * 2,
        *[("rest", 1)] * 2,
        *[("end", 1)] * 2,
        *[("close",)] * 2,
    ]


def test_the_base_class_does_nothing():
    assert len(run(course_of(3), Action()).batches) == 3


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_step_at_work(signum):
    course, listener = course_of(9), Listener()
    run(course, listener, stop_at(3, signum))
    assert (course.step, course.stopped_by) == (3, signum)
    assert listener.heard[-2:] == [("end", 3), ("close",)]


def test_a_signal_before_the_first_step_takes_none():
    course, listener = course_of(9), Listener()
    course.stop.signum = signal.SIGTERM
    run(course, listener)
    assert listener.heard == [("start", 0), ("end", 0), ("close",)]


def test_an_action_ends_the_run_with_a_reason():
    course = course_of(9)
    run(
        course, At(2, lambda course: course.end("enough")), At(2, lambda course: course.end("late"))
    )
    assert (course.step, course.reason, course.stopped_by) == (2, "enough", None)


def test_an_action_that_raises_ends_the_run_there_and_all_are_closed():
    def fail(course):
        raise ZeroDivisionError

    before, behind = Listener(every=1), Listener(every=1)
    course = course_of(9)
    with pytest.raises(ZeroDivisionError):
        run(course, before, At(2, fail), behind)
    assert before.heard[-2:] == [("step", 2), ("close",)]
    assert behind.heard[-2:] == [("rest", 1), ("close",)]


def test_an_action_that_cannot_start_is_closed_and_no_step_is_taken():
    class Broken(Listener):
        def on_start(self, course):
            raise ZeroDivisionError

    steps, broken, behind = FakeSteps(), Broken(), Listener()
    with pytest.raises(ZeroDivisionError):
        run(course_of(9), broken, behind, steps=steps)
    assert (steps.batches, broken.heard, behind.heard) == ([], [("close",)], [])


class Flight(Listener):
    """Also notes how many steps were in flight when it was at rest."""

    def __init__(self, steps, every):
        super().__init__(every)
        self._steps, self.in_flight = steps, []

    def at_rest(self, course):
        super().at_rest(course)
        self.in_flight.append(self._steps.in_flight)


def test_steps_in_flight_are_joined_before_anybody_looks_at_the_weights():
    steps = FakeSteps(limit=3)
    flight = Flight(steps, every=4)
    run(course_of(10), flight, steps=steps)
    assert steps_of(flight) == list(range(1, 11))
    assert flight.in_flight == [0, 0, 0]
    assert [what for what in flight.heard if what == ("rest", 4) or what == ("step", 4)] == [
        ("step", 4),
        ("rest", 4),
    ]


def test_steps_in_flight_are_heard_before_the_end_that_a_signal_makes():
    steps, course, listener = FakeSteps(limit=3), course_of(99), Listener()
    run(course, listener, stop_at(5), steps=steps)
    # Three more were under way when the fifth came back.
    assert course.step == 8
    assert steps_of(listener) == list(range(1, 9))
    assert listener.heard[-2] == ("end", 8)


class Meeting:
    """Lets threads add numbers up as processes do over the network."""

    def __init__(self, number):
        self._barrier, self._values = threading.Barrier(number, timeout=300), []

    def add_up(self, values):
        if self._barrier.wait() == 0:
            self._values = []
        self._barrier.wait()
        self._values.append(list(values))
        self._barrier.wait()
        return [sum(column) for column in zip(*self._values, strict=True)]


def run_together(*processes):
    """Runs the loop of each process, (course, actions), in a thread; returns their steps."""
    meeting, all_steps = Meeting(len(processes)), [FakeSteps() for _ in processes]
    threads = [
        threading.Thread(
            target=run_loop,
            args=(steps, lambda step: step, actions, course, meeting.add_up),
        )
        for steps, (course, actions) in zip(all_steps, processes, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return all_steps


def test_a_signal_to_one_process_stops_all_at_the_same_step():
    courses = [course_of(99) for _ in range(3)]
    run_together((courses[0], []), (courses[1], [stop_at(7, signal.SIGINT)]), (courses[2], []))
    assert [(course.step, course.stopped_by) for course in courses] == [(7, signal.SIGINT)] * 3
    # A first signal of its own does not end a process that was stopped by another one's.
    assert [course.stop.signum for course in courses] == [None, signal.SIGINT, None]


def test_an_end_that_the_chief_decides_is_that_of_all():
    courses = [course_of(99) for _ in range(2)]
    run_together((courses[0], [At(4, lambda course: course.end("enough"))]), (courses[1], []))
    assert [course.step for course in courses] == [4, 4]


def test_a_fit_of_the_chief_is_the_plan_of_all_from_the_same_step_on():
    courses = [course_of(99) for _ in range(2)]
    for course in courses:
        course.plan = Plan()
    refits = [At(3, lambda course: course.refit(20)), At(6, lambda course: course.refit(10))]
    all_steps = run_together((courses[0], refits), (courses[1], []))
    plan = Plan().refit(3, 20).refit(6, 10)
    assert [course.plan for course in courses] == [plan] * 2
    assert [course.step for course in courses] == [10, 10]
    for steps in all_steps:
        assert steps.plans == [Plan(), Plan().refit(3, 20), plan]


def test_a_second_signal_leaves_at_once():
    script = (
        "import os, signal, time\n"
        "from detflow.process.signals import stop_request\n"
        "with stop_request() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert stop.signum == signal.SIGINT\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=600)
    assert done.returncode == 128 + signal.SIGTERM


def test_the_loop_and_the_actions_do_not_import_tensorflow():
    script = (
        "import sys, detflow.training.actions, detflow.training.loop, "
        "detflow.training.time_budget, detflow.distributed.start\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600)


def test_a_course_knows_its_last_step_only_once_its_length_is_known():
    course = course_of(3)
    course.plan, course.step = Plan(), 10**6
    assert not course.is_last_step
    course.refit(course.step)
    assert course.is_last_step
    assert course.is_due(7)
