"""The command line. Each command is a few lines; heavy imports stay inside the bodies, so that help is instant."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click

from detflow import __version__
from detflow.errors import DetflowError

__all__ = ["cli", "main"]

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="detflow")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
def cli(debug: bool) -> None:
    """Train and deploy object detectors from a folder of images and VOC XML.

    \b
    Exit codes: 0 ok, 2 config or usage, 3 bad input, 4 corrupt artifact or failed gate,
    5 environment (disk, permission, memory), 6 locked, 130/143 interrupted/terminated.
    """  # noqa: D301 (click's paragraph mark)


def main() -> None:
    """Runs the command line; turns a `DetflowError` into one line on stderr and its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in sys.argv[1:]
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("detflow: interrupted", file=sys.stderr)
        sys.exit(130)
    except DetflowError as error:
        if debug:
            raise
        print(f"detflow: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _terminate(signum: int, frame: FrameType | None) -> None:
    # SystemExit unwinds the stack, so that temporary folders are removed on the way out.
    sys.exit(128 + signum)
