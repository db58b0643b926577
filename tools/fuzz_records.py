#!/usr/bin/env python
"""Feeds mutated XML and image files to make-records' audit and encoding, and checks each result.

    python tools/fuzz_records.py                          # 10,000 cases of seed 1
    python tools/fuzz_records.py --seed 7 --cases 500
    python tools/fuzz_records.py --first 4711 --cases 1 --keep case   # one case again, with files

A case is a function of (seed, number). Three things may not happen: an exception that is no
finding, a case that takes longer than five seconds, and a wrong label that nobody was told of. For
the last one every accepted annotation is read again by a second reader (`fuzz/reader.py`), which
shares no code with detflow. What is accepted must be exactly what that reader says, each deviation
from the file must stand in the ledger, and what is not accepted must have a finding that says why.
Each eighth case is a whole dataset whose truth is known (`fuzz/sets.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fuzz.checks import Wrong, check_labels, check_record, check_refusal
from fuzz.mutations import make_hostile, mutate_image, mutate_xml
from fuzz.sets import SetCase, build_set_case, check_set, write_set
from fuzz.sound import SOUND_IMAGE, build_image, build_xml
from PIL import Image

from detflow.data.findings import Finding
from detflow.data.judging.audit import AuditOptions, audit_dataset
from detflow.data.judging.rulings import Orders
from detflow.data.judging.sample import AuditedSample
from detflow.data.rules import Action
from detflow.data.sources.splits import SplitBy
from detflow.data.workers.processes import ProcessMap
from detflow.storage.folders import LocalFolder
from detflow.text import count_noun
from detflow.types import CornerFrame

SECONDS_PER_CASE = 5.0
# Whole datasets cost more than single pairs.
_SET_EVERY = 8
_BACKSTOP_SECONDS = 30.0  # For a hang inside C code, which no signal interrupts.


class TookTooLong(BaseException):
    """Raised by the alarm; no handler of exceptions inside detflow may swallow it."""


@dataclass(frozen=True)
class Case:
    """A folder of one annotation and one image: a function of (seed, number)."""

    image_name: str
    xml: bytes
    image: bytes


@dataclass
class Tally:
    """What came of the cases."""

    accepted: int = 0
    changed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)

    @property
    def cases(self) -> int:
        """How many cases were run."""
        return self.accepted + self.refused.total() + len(self.failures)


def build_case(seed: int, number: int) -> Case:
    """Builds a case: two thirds mutate the annotation, one third the image, some both."""
    rng = random.Random(seed * 1_000_003 + number)  # noqa: S311
    aim = rng.random()
    image, suffix = build_image(rng) if aim > 0.6 else (SOUND_IMAGE, ".jpg")
    if rng.random() < 0.1:
        suffix = rng.choice((".jpg", ".png", ".JPG", ".tiff", ".webp"))
    name = f"a{suffix}"
    text = build_xml(rng, name)
    if rng.random() < 0.01:
        text = make_hostile(rng, text)
    xml = mutate_xml(rng, text) if aim < 0.7 else text.encode()
    return Case(name, xml, mutate_image(rng, image) if aim > 0.6 else image)


def convert_case(root: Path, case: Case) -> tuple[AuditedSample | None, list[Finding]]:
    """Audits the folder of a case; returns its sample, where one came of it, and all findings."""
    dataset, work_dir = root / "set", root / "work"
    for folder in (dataset, work_dir):
        folder.mkdir(exist_ok=True)
    (dataset / "a.xml").write_bytes(case.xml)
    image = dataset / case.image_name
    image.write_bytes(case.image)
    try:
        audit = audit_dataset(
            LocalFolder.of(dataset),
            # A set of one file would decide by its own corners, and the second reader reads VOC.
            AuditOptions(
                split_by=SplitBy.SEED,
                fractions={"train": 1.0},
                orders=Orders(corners=CornerFrame.VOC),
            ),
            work_dir,
            ProcessMap(None, 1),
            lambda what, done, total: None,
        )
        return audit.read_sample("a.xml"), list(audit.findings())
    finally:
        image.unlink()


def check_case(root: Path, case: Case) -> tuple[AuditedSample | None, list[Finding], str]:
    """Runs a case and checks it.

    Returns:
        The sample, the findings, and the code of the refusal, which is "" where there is none.

    Raises:
        Wrong: The result must not be.
    """
    sample, findings = convert_case(root, case)
    if sample is None:
        return None, findings, check_refusal(findings)
    check_labels(sample, findings, case.xml, case.image_name)
    check_record(sample, case.image)
    return sample, findings, ""


def check_set_case(root: Path, case: SetCase) -> tuple[bool, str]:
    """Audits a whole dataset and compares it with what was drawn.

    Returns:
        Whether something was mended, and the code of a refusal, which is "" where there is none.

    Raises:
        Wrong: The result must not be.
    """
    dataset, work_dir = root / "many", root / "work"
    work_dir.mkdir(exist_ok=True)
    try:
        write_set(case, dataset)
        audit = audit_dataset(
            LocalFolder.of(dataset),
            AuditOptions(fractions={"train": 1.0}),
            work_dir,
            ProcessMap(None, 1),
            lambda what, done, total: None,
        )
        return audit.count(Action.REPAIRED) > 0, check_set(case, audit)
    finally:
        shutil.rmtree(dataset, ignore_errors=True)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TookTooLong` in the block after so many seconds.

    If C code does not come back, the process is ended.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    faulthandler.dump_traceback_later(_BACKSTOP_SECONDS, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def build_any(seed: int, number: int) -> Case | SetCase:
    """Builds a case; each eighth one is a whole dataset."""
    is_set = number % _SET_EVERY == _SET_EVERY - 1
    return build_set_case(seed, number) if is_set else build_case(seed, number)


def check_any(root: Path, case: Case | SetCase) -> tuple[bool, bool, str]:
    """Checks a case.

    Returns:
        Whether something was accepted, whether something of it was mended, and the code of the
        refusal, which is "" where there is none.

    Raises:
        Wrong: The result must not be.
    """
    if isinstance(case, SetCase):
        changed, code = check_set_case(root, case)
        return not code, changed, code
    sample, findings, code = check_case(root, case)
    repaired = any(finding.action is Action.REPAIRED for finding in findings)
    return sample is not None, sample is not None and repaired, code


def check_in_time(root: Path, case: Case | SetCase) -> tuple[bool, bool, str]:
    """Runs a case under the time limit, twice if needed: a busy machine can starve it once."""
    try:
        with time_limit(SECONDS_PER_CASE):
            return check_any(root, case)
    except TookTooLong:
        with time_limit(SECONDS_PER_CASE):
            return check_any(root, case)


def run_cases(
    seed: int, first: int, count: int, progress: Callable[[int], None] = lambda number: None
) -> Tally:
    """Runs cases one after the other in this process."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(first, first + count):
            case = build_any(seed, number)
            start = time.perf_counter()
            try:
                accepted, changed, code = check_in_time(root, case)
            except TookTooLong:
                tally.failures.append(f"case {number}: hangs")
            except Wrong as error:
                tally.failures.append(f"case {number}: wrong: {error}")
            except Exception:  # noqa: BLE001  This is what the tool looks for.
                tally.failures.append(f"case {number}: crashes\n{traceback.format_exc(limit=-4)}")
            else:
                tally.accepted += accepted
                tally.changed += changed
                if code:
                    tally.refused[code] += 1
            tally.slowest = max(tally.slowest, (time.perf_counter() - start, number))
            progress(number + 1 - first)
    return tally


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the cases (default 1)")
    parser.add_argument(
        "--cases", type=int, default=10_000, metavar="N", help="how many (default 10,000)"
    )
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="NUMBER",
        help="number of the first case (default 0)",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="write the files of the first case there"
    )
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        case = build_any(options.seed, options.first)
        if isinstance(case, SetCase):
            write_set(case, options.keep)
        else:
            (options.keep / "a.xml").write_bytes(case.xml)
            (options.keep / case.image_name).write_bytes(case.image)

    def show(done: int) -> None:
        if sys.stderr.isatty() and done % 100 == 0:
            print(f"\r{done:,}/{options.cases:,}", end="", file=sys.stderr, flush=True)

    start = time.perf_counter()
    tally = run_cases(options.seed, options.first, options.cases, show)
    seconds = time.perf_counter() - start
    for failure in tally.failures:
        print(failure)
    failures = count_noun(len(tally.failures), "failure")
    refused = ", ".join(f"{code} {number:,}" for code, number in tally.refused.most_common())
    longest, case_number = tally.slowest
    print(f"{tally.cases:,} cases of seed {options.seed} in {seconds:.0f} s: {failures}")
    print(f"  accepted {tally.accepted:,}, of them {tally.changed:,} with repairs in the ledger")
    print(f"  not accepted {tally.refused.total():,}: {refused}")
    print(f"  slowest case {case_number}: {longest:.2f} s; peak memory {_peak_megabytes():.0f} MB")
    sys.exit(1 if tally.failures else 0)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
