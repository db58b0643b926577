"""The group of all commands, and how a command ends: its exit code, and one line for an error."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from detflow.cli import compare, data, model, push, serve, train, weights
from detflow.cli.closed_pipe import CLOSED_PIPE_CODE, is_output_closed, run_group
from detflow.cli.output import drop_unwritten, prepare_streams, print_error, print_text
from detflow.cli.stranger import find_stranger
from detflow.cli.talk import Workflow, is_debug, talk_options, talking
from detflow.cli.usage import describe_usage_error
from detflow.errors import DetflowError, translate_fault
from detflow.process.ending import immediate_exit
from detflow.process.libraries import translate_missing
from detflow.version import __version__

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


@click.group(cls=Workflow, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="detflow")
@talk_options
def cli() -> None:
    """Train and deploy object detectors from a folder of images and annotations.

    The commands stand in the order in which they are needed: begin with `detflow check FOLDER`.
    Each has its own --help.

    Exit codes: 0 ok, 1 sets differ (diff), 2 configuration or usage, 3 bad input, 4 corrupt
    artifact or failed gate, 5 environment (disk, permission, memory, a library), 6 locked, 130
    interrupted, 141 nobody reads the output any more, 143 terminated.
    """


for _command in (
    data.check,
    data.make_records,
    data.convert,
    data.diff,
    data.init,
    data.config,
    train.train,
    weights.weights,
    model.runs,
    model.evaluate,
    compare.compare,
    model.export,
    model.predict,
    model.benchmark,
    push.push,
    serve.serve,
):
    cli.add_command(_command)


def main() -> None:
    """Runs the command line and ends the process."""
    signal.signal(signal.SIGTERM, _terminate)
    prepare_streams()
    if (stranger := find_stranger()) is not None:
        print_text(f"detflow: warning: {stranger}", err=True)
    with immediate_exit():
        try:
            code = run(sys.argv[1:])
        finally:
            drop_unwritten()
        sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs a command; turns an error into lines on stderr.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit code. A command that ends with another one raises SystemExit.

    Raises:
        DetflowError: The command failed, and the traceback was asked for.
    """
    try:
        return _run(arguments)
    except (BrokenPipeError, SystemExit) as error:
        if is_output_closed(error):
            return CLOSED_PIPE_CODE
        raise


def _run(arguments: Sequence[str]) -> int:
    try:
        with talking():
            return run_group(cli, arguments)
    except click.ClickException as error:
        print_error(describe_usage_error(error))
        return 2
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print_text("detflow: interrupted", err=True)
        return 130
    except DetflowError as error:
        if is_debug(arguments):
            raise
        # An error of a dataset names the files before it; each name is a line.
        for note in getattr(error, "__notes__", ()):
            print_text(note, err=True)
        print_error(str(error))
        return error.exit_code
    except ImportError as error:
        # A place that has not looked before whether the library of an extra is there.
        missing = translate_missing(error)
        if missing is None or is_debug(arguments):
            raise
        print_error(str(missing))
        return missing.exit_code
    except (OSError, RuntimeError, MemoryError) as error:
        # What no place further down has said better; any other exception is a defect of detflow.
        fault = None if is_output_closed(error) else translate_fault(error)
        if fault is None or is_debug(arguments):
            raise
        print_error(str(fault))
        return fault.exit_code


def _terminate(signum: int, frame: FrameType | None) -> None:
    # SystemExit unwinds the stack, so that temporary folders are removed on the way out.
    sys.exit(128 + signum)
