"""Stand-ins for the parts of a training that take long: steps, evaluations, checkpoints."""

from types import SimpleNamespace

from detflow.config.reading import parse_config
from detflow.distributed.steps import TakenStep
from detflow.process.signals import StopRequest
from detflow.runs.plan import Plan
from detflow.runs.states import CheckpointState
from detflow.training.loop import Action, Course

CONFIG = parse_config("data: {records: x}", ["evaluate.every_steps=4", "checkpoint.every_steps=3"])


class FakeSteps:
    """Takes steps at once, or keeps so many in flight as the workers of parameter servers do."""

    def __init__(self, limit=0, losses=lambda number: [float(number)]):
        self._limit, self._losses = limit, losses
        self._flight, self.batches, self.plans = [], [], []

    @property
    def in_flight(self):
        return len(self._flight)

    def take(self, step, batch):
        self.batches.append(batch)
        self._flight.append(TakenStep(step + 1, self._losses(step + 1), 0.1))
        return [self._flight.pop(0)] if len(self._flight) > self._limit else []

    def join(self):
        taken, self._flight = self._flight, []
        return taken

    def follow(self, plan):
        self.plans.append(plan)


class FakeCheckpoints:
    """Keeps states as `Checkpoints` does, without files."""

    def __init__(self, config=CONFIG, state=None):
        self._config, self.state, self.saved, self.intervals = config, state, [], {}

    def state_after(self, step, metrics):
        before = self.state or CheckpointState(0)
        return before.after(step, metrics, self._config.evaluate, self._config.train)

    def save(self, step, metrics, first_images=None, intervals=None):
        self.state = self.state_after(step, metrics)
        self.saved.append((step, dict(metrics)))
        self.intervals[step] = intervals

    def is_evaluated(self, step):
        return self.state is not None and self.state.step == step and bool(self.state.metrics)


class Listener(Action):
    """Notes what the loop tells it, in order; at rest after every so many steps."""

    def __init__(self, every=None, name=""):
        self.every, self.name, self.heard = every, name, []

    def _hear(self, *what):
        self.heard.append(what)

    def on_start(self, course):
        self._hear("start", course.first)

    def on_step(self, step, course):
        self._hear("step", step.number)

    def is_due(self, course):
        return bool(self.every) and course.is_due(self.every)

    def at_rest(self, course):
        self._hear("rest", course.step)

    def on_end(self, course):
        self._hear("end", course.step)

    def close(self):
        self._hear("close")


class At(Action):
    """Does something after a step."""

    def __init__(self, number, act):
        self._number, self._act = number, act

    def on_step(self, step, course):
        if step.number == self._number:
            self._act(course)


def evaluation(metrics, images=()):
    return SimpleNamespace(metrics=metrics, images=list(images), rankings=())


def course_of(total, first=0, config=CONFIG):
    return Course(config, None, Plan.fixed(total), first, first, StopRequest())
