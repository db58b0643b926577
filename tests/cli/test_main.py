import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import detflow
from detflow.cli.main import cli
from detflow.cli.talk import WORKFLOW
from detflow.config.reading import explain_config, read_config
from detflow.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def commands():
    return sorted(cli.commands.items())


def test_help_is_documentation():
    for name, command in commands():
        assert command.help, name
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, (
                f"{name} {parameter.name}"
            )


def test_help_names_no_page_that_a_wheel_lacks():
    texts = [" ".join(setting) for setting in explain_config()]
    for _, command in commands():
        texts.append(command.get_help(click.Context(command, **cli.context_settings)))
    texts += [getattr(detflow, name).__doc__ or "" for name in detflow.__all__]
    assert [text for text in texts if re.search(r"\bdocs/", text)] == []


def test_the_list_of_commands_says_all_of_each_at_80_columns():
    context = click.Context(cli, terminal_width=80, **cli.context_settings)
    listed = cli.get_help(context).partition("\nPrepare:")[2]
    assert listed.count("\n  ") == len(commands())
    assert "..." not in listed


def test_every_command_has_its_place_in_the_workflow():
    assert set(dict(commands())) <= {name for names in WORKFLOW.values() for name in names}


def test_the_readme_lists_every_command():
    table = set(
        re.findall(r"^\| `detflow ([a-z -]+)`", (ROOT / "README.md").read_text(), re.MULTILINE)
    )
    assert table == {name for name, _ in commands()}


def test_the_readme_links_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/*.md")]:
        prose = re.sub(
            r"^```.*?^```$|`[^`\n]*`", "", document.read_text(), flags=re.MULTILINE | re.DOTALL
        )
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readme_has_no_options_that_do_not_exist():
    known = {"--fast", "--soak", "--help", "--debug", "--version", "--logdir"} | {
        option
        for _, command in commands()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for document in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*.md")]:
        for line in document.read_text().splitlines():
            if "detflow " in line:
                used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", line))
                assert used <= known, f"{document.name}: {line}"


@pytest.mark.parametrize(
    "config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_shipped_config_is_valid_and_says_what_it_does(config):
    read_config(config)
    assert config.read_text().startswith("# ")


# Commands one after the other, those first that import least.
LIGHT = """
import json, sys
from detflow.cli.main import run

unwanted = {"tensorflow", "tf_keras", "official", "keras", "fsspec", "s3fs", "gcsfs", "botocore"}
for command in json.loads(sys.argv[1]):
    try:
        run(command)
    except SystemExit:
        pass
    assert "click" in sys.modules
    more = {"ray", "numpy", "PIL"} if "--help" in command else {"ray"}
    heavy = (unwanted | more) & {name.partition(".")[0] for name in sys.modules}
    assert not heavy, (command, heavy)
"""


def test_nothing_heavy_is_imported_for_help_check_and_records(tmp_path):
    (tmp_path / "set").mkdir()
    dataset, output = str(tmp_path / "set"), str(tmp_path / "out")
    light = [["--help"], ["train", "--help"], ["config", "--explain"], ["check", dataset]]
    light.append(["make-records", dataset, "--output", output])
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, json.dumps(light)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nonsense",), 2, "detflow: error: there is no command nonsense; detflow --help lists"),
        (("train",), 2, "detflow: error: --config is missing; detflow train --help lists"),
        (
            ("train", "--config", "none.yaml"),
            2,
            "detflow: error: none.yaml: no such file",
        ),
        (
            ("config", "typo.yaml"),
            2,
            "detflow: error: typo.yaml:2: unknown setting data.recods; did you mean records?",
        ),
        (("config",), 2, "name a configuration file"),
        (("train", "--config", "ok.yaml"), 4, "detflow: error: nowhere"),
        (("evaluate", "--model", "none", "--records", "nowhere"), 4, "detflow: error: nowhere"),
        (("make-records", "empty", "--output", "out"), 3, "detflow: error: "),
        (("runs", "empty"), 4, "detflow: error: empty: no model directory here"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    run, tmp_path, monkeypatch, arguments, code, message
):
    (tmp_path / "typo.yaml").write_text("data:\n  recods: x\n")
    (tmp_path / "ok.yaml").write_text("data:\n  records: nowhere\n")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    if "detflow: error" in message:
        assert done.err.count("\n") == 1


def test_debug_lets_the_error_through(run, tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        run("--debug", "config", tmp_path / "none.yaml")


def test_the_process_ends_with_the_code_and_the_line(tmp_path):
    """The one test here of a whole process; signals of real ones are in serving and training."""
    command = [sys.executable, "-m", "detflow"]
    done = subprocess.run(
        [*command, "config", "none.yaml"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("detflow: error: none.yaml: no such file")
    assert done.stderr.count("\n") == 1
