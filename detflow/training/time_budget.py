"""The action that ends a training on time. Does not import TensorFlow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from typing_extensions import override

from detflow.distributed.steps import TakenStep
from detflow.training.budget import FIRST_TIMED_STEP, LAST_TIMED_STEP, Costs, Intervals, Stopwatch
from detflow.training.loop import NO_TIME_TO_EVALUATE, Action, Course

# What a checkpoint of a few megabytes costs, until one was written.
_CHECKPOINT_SECONDS = 0.3
# From the last checkpoint to the end of the process.
_EXIT_SECONDS = 0.7
# The number of steps is fitted to a little less than the budget: rather end early than late.
_SHARE_USED = 0.995
# Up to this share of the budget an evaluation that has begun may take; then it is given up.
_SHARE_ALLOWED = 1.03
# A fit is followed by the next one when this share of the time that it left is used, or when twice
# as many steps are taken: often at first, when little is known, and often at the end, when little
# can still be changed.
_REFIT_SHARE = 0.25
# So near to the end, as a share of the budget, only the guard watches.
_LAST_FIT_SHARE = 0.004
# The first fit waits for step 40, but not for more than this share of the time that is left.
_FIRST_FIT_SHARE = 0.1
# A step's cost is that of the latest steps, this share of the time so far.
_WINDOW_SHARE = 0.2


class TimeBudget(Action):
    """Fits the number of steps to the clock again and again, and ends the run in time.

    Each fit becomes part of the plan, and changes how fast the learning rate's schedule passes
    from there on. Where one more step would not leave the time to evaluate and save, the run ends;
    where there is not even the time to evaluate, it ends with a checkpoint that is not evaluated.

    Args:
        seconds: The budget.
        intervals: When the run evaluates and saves.
        stopwatch: Measures evaluations and checkpoints, and knows when the budget began.
        rehearse: Returns how long an evaluation takes, from one of a few images; called once.
        record: Called after each fit, to write the plan down.
    """

    def __init__(
        self,
        seconds: float,
        intervals: Intervals,
        stopwatch: Stopwatch,
        rehearse: Callable[[], float],
        record: Callable[[Course], None],
    ) -> None:
        self._seconds, self._intervals, self._stopwatch = seconds, intervals, stopwatch
        self._rehearse, self._record = rehearse, record
        # Time spent on steps, and the number of the step that had just ended.
        self._times: deque[tuple[float, int]] = deque()
        self._slowest = 0.0
        self._rehearsed = 0.0
        # The latest evaluation that was measured, and what a step cost at that time.
        self._evaluation: tuple[int, float] = (0, 0.0)
        # When, or after how many steps, the next fit is due.
        self._next: tuple[float, int] | None = None

    @property
    def is_late(self) -> bool:
        """Whether an evaluation has to be given up, so that the run is still saved in time."""
        allowed = self._seconds * _SHARE_ALLOWED - self._costs().checkpoint - _EXIT_SECONDS
        return self._stopwatch.now() > allowed

    @override
    def on_step(self, step: TakenStep, course: Course) -> None:
        now = self._stopwatch.stepping()
        if self._times and step.number - course.first > FIRST_TIMED_STEP:
            before, number = self._times[-1]
            self._slowest = max(0.9 * self._slowest, (now - before) / max(1, step.number - number))
        self._times.append((now, step.number))
        if step.number - course.first == FIRST_TIMED_STEP:
            self._times.clear()
            self._times.append((now, step.number))
        while len(self._times) > LAST_TIMED_STEP and self._times[1][0] < now * (1 - _WINDOW_SHARE):
            self._times.popleft()

    @override
    def is_due(self, course: Course) -> bool:
        if course.step == course.first or course.is_last_step or course.is_stopping:
            return False
        return self._is_time_to_fit(course) or self._is_over(course)

    @override
    def at_rest(self, course: Course) -> None:
        now = self._stopwatch.now()
        if self._is_over(course):
            self._end(course)
            return
        if self._next is None and self._intervals.evaluation is not None:
            self._rehearsed = self._rehearse()
        left = self._seconds * _SHARE_USED - _EXIT_SECONDS - self._stopwatch.now()
        total = self._intervals.fit(course.step, left, self._costs())
        if total != course.total:
            course.refit(max(total, course.step + 1))
            self._record(course)
        rest = max(_REFIT_SHARE * left, _LAST_FIT_SHARE * self._seconds)
        taken = course.step - course.first
        self._next = (now + rest, course.first + 2 * taken)

    def _is_time_to_fit(self, course: Course) -> bool:
        now, taken = self._stopwatch.now(), course.step - course.first
        if self._next is None:
            began = self._times[0][0] if self._times else now
            has_waited = now - began > _FIRST_FIT_SHARE * (self._seconds - began)
            return taken >= LAST_TIMED_STEP or (taken > FIRST_TIMED_STEP + 1 and has_waited)
        moment, step = self._next
        is_open = self._seconds - now > _LAST_FIT_SHARE * self._seconds
        is_early = course.total is not None and 2 * step < course.total
        return (
            not course.plan.is_full
            and is_open
            and (now >= moment or (is_early and course.step >= step))
        )

    def _is_over(self, course: Course) -> bool:
        """Tells whether one more step, and what has to follow it, would pass the budget."""
        costs = self._costs()
        more = self._intervals.seconds(course.step, course.step + 1, costs)
        more += max(0.0, self._slowest - costs.step)
        # Steps in flight at the workers of parameter servers; the latest one is not reported yet.
        reported = self._times[-1][1] if self._times else course.first
        more += max(0, course.step - reported - 1) * costs.step
        return self._stopwatch.now() + more > self._seconds - _EXIT_SECONDS

    def _end(self, course: Course) -> None:
        costs = self._costs()
        here = self._intervals.seconds(course.step, course.step, costs)
        course.refit(course.step)
        self._record(course)
        if self._stopwatch.now() + here > self._seconds * _SHARE_ALLOWED - _EXIT_SECONDS:
            course.end(NO_TIME_TO_EVALUATE)

    def _costs(self) -> Costs:
        step = self._step_seconds()
        _, checkpoint = self._stopwatch.latest("checkpoint")
        number, evaluation = self._stopwatch.latest("evaluation")
        if number == 0:
            evaluation = self._rehearsed
        elif number != self._evaluation[0]:
            self._evaluation = (number, step)
        # An evaluation takes longer where a step does.
        if number and self._evaluation[1]:
            evaluation *= min(1.5, max(1 / 1.5, step / self._evaluation[1]))
        return Costs(step, evaluation, checkpoint or _CHECKPOINT_SECONDS)

    def _step_seconds(self) -> float:
        if len(self._times) < 2:
            return max(1e-6, self._slowest)
        (began, first), (ended, last) = self._times[0], self._times[-1]
        return max(1e-6, (ended - began) / max(1, last - first))
