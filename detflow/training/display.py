"""Training as a person sees it: a live line on a terminal, plain lines elsewhere.

Everything goes to stderr.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from detflow.progress import erase_status, pause_status
from detflow.tables import format_metric
from detflow.text import escape_lines

# Seconds between lines in a log file: often enough to show progress, seldom enough to read.
_LINE_SECONDS = 15.0
# The rate is that of the last seconds, so that it tells what the machine does now.
_RATE_SECONDS = 20.0
# A time budget is fitted often; people are told of changes larger than this share.
_TOLD_SHARE = 0.1


class TrainingDisplay:
    """Shows notes and progress.

    Args:
        silent: Shows nothing: of several processes one is enough.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=silent)
        self._live = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            # On a narrow terminal the numbers need the space.
            BarColumn(bar_width=max(4, min(24, self._console.width - 64))),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._pauses = contextlib.ExitStack()
        self._task = self._live.add_task("train", total=None, status="preparing")
        self._steps: int | None = None
        self._told: int | None = None
        self._status = ""
        self._batch_size = 0
        self._times: list[tuple[float, int]] = []
        self._last_line = -math.inf

    def note(self, text: str) -> None:
        """Prints a line."""
        erase_status()
        self._console.print(escape_lines(text), markup=False)

    def start(self, first: int, steps: int | None, batch_size: int) -> None:
        """Shows the progress bar until `stop`.

        Args:
            first: Steps that were taken before.
            steps: Steps of the whole run; None if still unknown.
            batch_size: Images of a step, for the rate.
        """
        self._steps, self._batch_size = steps, batch_size
        # The first step is shown as what it is: it takes as long as many others.
        self._status = "compiling the first step"
        self._live.update(self._task, total=steps, completed=first, status=self._status)
        if not self._console.is_terminal:
            self.note(self._status)
        if self._console.is_terminal:
            self._pauses.enter_context(pause_status())
        self._live.start()

    def stop(self) -> None:
        """Takes the progress bar away."""
        self._live.stop()
        self._pauses.close()

    @contextlib.contextmanager
    def steps(self, first: int, steps: int | None, batch_size: int) -> Iterator[None]:
        """Shows the progress bar during the block; arguments as of `start`."""
        self.start(first, steps, batch_size)
        try:
            yield
        finally:
            self.stop()

    def set_steps(self, steps: int) -> None:
        """Corrects the number of steps of a time budget; says so where it changes much."""
        self._steps = steps
        self._live.update(self._task, total=steps)
        if self._told is None or abs(steps - self._told) > _TOLD_SHARE * self._told:
            again = "" if self._told is None else "now "
            self.note(f"the time budget {again}comes to {steps:,} steps")
            self._told = steps

    def step(self, step: int, loss: float) -> None:
        """Shows a step, counted from 1, its loss, images a second and the time left."""
        now = time.monotonic()
        self._times.append((now, step))
        while now - self._times[0][0] > _RATE_SECONDS and len(self._times) > 2:
            self._times.pop(0)
        seconds = now - self._times[0][0]
        self._status = f"loss {loss:.3f}"
        if seconds > 0:
            rate = (step - self._times[0][1]) / seconds
            self._status += f"  {rate * self._batch_size:.1f} images/s"
            if self._steps and step < self._steps:
                self._status += f"  {_clock((self._steps - step) / rate)} left"
        self._live.update(self._task, completed=step, status=self._status)
        if not self._console.is_terminal and (
            now - self._last_line > _LINE_SECONDS or step == self._steps
        ):
            self._last_line = now
            self.note(f"step {step:,}{f'/{self._steps:,}' if self._steps else ''}  {self._status}")

    def evaluating(self, num_images: int) -> None:
        """Shows why no step is taken."""
        self._live.update(self._task, status=f"evaluating on {num_images:,} images")

    def evaluated(
        self,
        step: int,
        metrics: Mapping[str, float | None],
        best_step: int | None,
        seconds: float,
        gain: str = "",
    ) -> None:
        """Prints the main metrics of an evaluation, whose time does not lower the rate.

        Args:
            step: Of the evaluation.
            metrics: By name.
            best_step: The best step so far; None before there is one.
            seconds: What the evaluation took.
            gain: What it has more or less than the best one before, in words.
        """
        self._times = []
        self._live.update(self._task, status=self._status)
        headline = "  ".join(
            f"{name} {format_metric(metrics[name])}" for name in ("AP", "AP50", "AP75")
        )
        best = (
            "best so far"
            if best_step == step
            else f"best is step {best_step:,}"
            if best_step is not None
            else ""
        )
        self.note(f"step {step:,}: {headline}  ({best}, {seconds:.0f} s)")
        if gain:
            self.note(f"  AP {gain}")


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
