"""Processes that need not import TensorFlow: forks of one that has imported it and done no more.

The import takes a process seconds, and each fork has it for nothing. It computes with the network
that the test does.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from multiprocessing import forkserver
from types import SimpleNamespace

import networks

_PRELOADED = ("evaluation.run", "exporting.build", "prediction.run", "training.recipe")


def start_process(target, *arguments):
    """Starts a function in a fork; returns its `Process`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"detflow.{module}" for module in _PRELOADED])
    # The process that is forked from serves tests of both networks.
    is_small = networks.is_small()
    networks.use(is_small=False)
    forkserver.ensure_running()
    networks.use(is_small=is_small)
    process = context.Process(target=_run, args=(is_small, target, arguments))
    process.start()
    return process


def start_command(arguments, folder, **environment):
    """Starts `detflow ARGUMENTS` in a working directory.

    What it prints goes to the files stdout and stderr there.
    """
    return start_process(_run_command, arguments, folder, {**os.environ, **environment})


def run_script(path, folder, **environment):
    """Runs a Python script to its end in a working directory; returns what `run_command` does."""
    return _finish(start_process(_run_script, path, folder, {**os.environ, **environment}), folder)


def run_command(arguments, folder):
    """Runs `detflow ARGUMENTS` to its end; returns its exit code and what it printed."""
    return _finish(start_command(arguments, folder), folder)


def end_server():
    """Ends the process that has imported TensorFlow, and waits for it."""
    forkserver._forkserver._stop()


def _finish(process, folder):
    process.join()
    printed = {name: (folder / name).read_text() for name in ("stdout", "stderr")}
    return SimpleNamespace(returncode=process.exitcode, **printed)


def _run(is_small, target, arguments):
    networks.use(is_small=is_small)
    target(*arguments)


def _run_command(arguments, folder, environment):
    _settle(folder, environment)
    sys.argv = ["detflow", *map(str, arguments)]
    from detflow.cli.main import main

    main()


def _run_script(path, folder, environment):
    _settle(folder, environment)
    runpy.run_path(str(path), run_name="__main__")


def _settle(folder, environment):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # It is chosen once in a process.
    tempfile.tempdir = None
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        with open(name, "wb") as file:
            os.dup2(file.fileno(), descriptor)
