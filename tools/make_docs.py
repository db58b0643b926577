"""Writes docs/api.md, docs/cli.md and docs/settings.md from the code.

    python tools/make_docs.py            # after a docstring or a help text has changed
    python tools/make_docs.py --check    # tells whether the files are up to date

docs/api.md has the signatures and docstrings of the public names, docs/cli.md the help of every
command at 80 columns, docs/settings.md what `detflow config --explain` prints.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import detflow
from detflow.api.model import Export
from detflow.api.training import Training
from detflow.cli.main import cli
from detflow.config.reading import explain_config
from detflow.config.schema import ExperimentConfig
from detflow.data.check import CheckResult
from detflow.data.findings import Finding
from detflow.distributed.steps import TakenStep
from detflow.evaluation.analysis import Analysis
from detflow.prediction.run import PredictedImage, Predictions
from detflow.training.loop import Course, Evaluated
from detflow.types import ImageSize, ObjectAnnotation

DOCS = Path(__file__).resolve().parents[1] / "docs"

_NOTE = "<!-- Written by tools/make_docs.py. Change the code, then run it. -->\n"
_SETTINGS_HEAD = """# Settings

A configuration is a YAML file of these sections: `train: {steps: 600}` sets `train.steps`. `detflow
init` writes one with a reason beside each value, `--set train.steps=600` replaces a value for one
run, and a key that is not on this page is an error that names the nearest one.
"""
_API_HEAD = """# The Python interface

`import detflow` is the whole public interface: the names on this page and no others. Every other
module is private and may change without notice. The import costs nothing; NumPy comes with the
first function that needs it, TensorFlow with the first call that trains, exports, or runs a model
that nothing lighter can run. The functions print nothing unless they are asked to, and raise
[errors](#errors) of one line. [notebook.ipynb](notebook.ipynb) goes the whole way.

```python
import detflow

detflow.make_records("pets", "records/pets")
config = detflow.init("records/pets")
result = detflow.train(config, model_dir="runs/pets")
export = detflow.export(result.best_checkpoint, "exports/pets", formats=["onnx"])
detector = detflow.load_detector(export.path)
detections = detector.predict("photo.jpg")
detections.to_pandas()
```

Three kinds of arguments have names of their own in the signatures:

- `Place`: a path, as text or `Path`; or the URL of a prefix in an object store,
  `s3://bucket/prefix`.
- `Config`: the object that `init` returns, a dict of its sections, or the path of a YAML file.
- `Picture`: a path, a file's bytes, a Pillow image, or an array [height, width, 3] of uint8, RGB.
"""
_CLI_HEAD = """# The command line

Every command as it describes itself. Errors are one line: path, place, cause, remedy; `--debug`
adds the traceback.
"""

_SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Data", "", ("check", "make_records", "convert", "diff", "read_samples")),
    ("Training", "", ("init", "train", "Action", "list_weights", "fetch_weights")),
    (
        "Models",
        "",
        ("evaluate", "compare", "export", "push", "predict", "load_detector", "Detector"),
    ),
    (
        "Values",
        "Boxes are shares of the upright image, from its top left corner.",
        ("Detections", "Detection", "Box", "LabelMap", "Sample"),
    ),
    (
        "Configuration",
        "`detflow config --explain` lists the settings of each section.",
        ("ExperimentConfig",),
    ),
    (
        "Errors",
        "An error has `cause`, `path`, `place` and `remedy`, and as text is one line of them. Its\n"
        "`exit_code` is that of the command line.",
        (
            "DetflowError",
            "ConfigError",
            "DataError",
            "ArtifactError",
            "EnvironmentFault",
            "Locked",
        ),
    ),
)
# The functions return these, or hand them to actions. They are not public names: nobody has to
# make one.
_RESULTS = (
    CheckResult,
    Finding,
    Training,
    Analysis,
    Export,
    Predictions,
    PredictedImage,
    ObjectAnnotation,
    ImageSize,
    Course,
    TakenStep,
    Evaluated,
)
# Methods that other rooms of detflow call; they are private like everything else.
_PRIVATE_METHODS = frozenset(
    {
        "Analysis.error_classes",
        "Analysis.error_counts",
        "Course.is_due",
        "Course.refit",
        "Finding.from_json",
        "Finding.to_fields",
        "Detections.to_rows",
        "Detector.detect",
    }
)
_HEADING = re.compile(r"^(Args|Returns|Yields|Raises|Attributes):$")
_ENTRY = re.compile(r"^(\*{0,2}\w+): (.*)$")


def render_api() -> str:
    """Returns docs/api.md."""
    parts = [_NOTE, _API_HEAD]
    for title, introduction, names in _SECTIONS:
        parts.append(f"## {title}\n")
        if introduction:
            parts.append(f"{introduction}\n")
        for name in names:
            parts += _describe(getattr(detflow, name), f"detflow.{name}")
    parts.append("## Results\n")
    parts.append("What the functions return and what actions are given. Nobody has to make it.\n")
    for result in _RESULTS:
        parts += _describe(result, result.__name__)
    return "\n".join(parts)


def render_cli() -> str:
    """Returns docs/cli.md."""
    parts = [_NOTE, _CLI_HEAD]
    group = click.Context(cli, info_name="detflow", terminal_width=80, **cli.context_settings)
    parts.append(f"## detflow\n\n```text\n{cli.get_help(group)}\n```\n")
    parts += _list_commands(cli, group)
    return "\n".join(parts)


def render_settings() -> str:
    """Returns docs/settings.md: a table for each section of the configuration."""
    parts = [_NOTE, _SETTINGS_HEAD]
    rows = list(explain_config())
    for section, field in ExperimentConfig.model_fields.items():
        parts.append(f"## {section}\n\n{field.annotation.__doc__}\n")
        parts.append("| setting | default | meaning |\n|---|---|---|")
        parts += [
            f"| `{name}` | `{default}` | {meaning.replace('|', chr(92) + '|')} |"
            for name, default, meaning in rows
            if name.startswith(f"{section}.")
        ]
        parts.append("")
    return "\n".join(parts)


def _list_commands(group: click.Group, parent: click.Context) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.commands[name]
        context = click.Context(command, info_name=name, parent=parent, terminal_width=80)
        yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            yield from _list_commands(command, context)


def _describe(thing: Any, name: str) -> Iterator[str]:
    yield f"### {name}\n"
    is_error = inspect.isclass(thing) and issubclass(thing, Exception)
    if inspect.isfunction(thing):
        yield f"```python\n{_format_signature(thing, name)}\n```\n"
    yield _to_markdown(thing)
    if is_error:
        yield f"Exit code {thing.exit_code}.\n"
    elif inspect.isclass(thing):
        for method, shown in _find_methods(thing):
            yield f"#### {name.removeprefix('detflow.')}.{method}\n"
            if not isinstance(shown, property):
                yield f"```python\n{_format_signature(shown, method)}\n```\n"
            yield _to_markdown(shown)


def _find_methods(thing: type) -> Iterator[tuple[str, Any]]:
    for method, value in vars(thing).items():
        shown = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if (
            not method.startswith(("_", "model_"))
            and (inspect.isfunction(shown) or isinstance(shown, property))
            and f"{thing.__name__}.{method}" not in _PRIVATE_METHODS
        ):
            yield method, shown


def _format_signature(function: Any, name: str) -> str:
    signature = inspect.signature(function)
    parameters = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    text = str(signature.replace(parameters=parameters))
    # Annotations are text already; str() puts them in quotes.
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    line = f"{name}{text}"
    if len(line) <= 100:
        return line
    pieces, star = [], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            pieces.append("    *,")
            star = True
        pieces.append("    " + re.sub(r": '([^']*)'", r": \1", str(parameter)) + ",")
    returned = text.rpartition(" -> ")[2]
    return "\n".join([f"{name}(", *pieces, f") -> {returned}"])


def _to_markdown(thing: Any) -> str:
    """Returns a Google-style docstring as Markdown: its sections become lists."""
    lines = []
    section = None
    for line in inspect.getdoc(thing).splitlines():
        if heading := _HEADING.match(line):
            section = heading.group(1)
            lines.append(f"**{section}**\n")
        elif section and line.startswith("    "):
            entry = _ENTRY.match(line[4:])
            if section in ("Args", "Attributes", "Raises") and entry:
                lines.append(f"- `{entry.group(1)}`: {entry.group(2)}")
            elif section in ("Args", "Attributes", "Raises"):
                lines.append(f"  {line.strip()}")
            else:
                lines.append(line.strip())
        else:
            section = section if not line else None
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the files, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if old")
    check = parser.parse_args().check
    pages = (
        ("api.md", render_api()),
        ("cli.md", render_cli()),
        ("settings.md", render_settings()),
    )
    for name, text in pages:
        path = DOCS / name
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{name} is old: run python tools/make_docs.py")


if __name__ == "__main__":
    main()
