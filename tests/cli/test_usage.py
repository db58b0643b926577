import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "there is no command nonsense; detflow --help lists what there is"),
        (("train",), "--config is missing; detflow train --help lists what there is"),
        (("predict",), "SOURCE is missing; detflow predict --help lists what there is"),
        (("compare", "--records", "."), "A B [C...] is missing; detflow compare --help lists what"),
        (("diff",), "[OLD] NEW is missing; detflow diff --help lists what there is"),
        (("compare", ".", "nope", "--records", "."), "nope: no such file or folder"),
        (("diff", "nope", "."), "nope: no such file or folder"),
        (("benchmark", "nope"), "nope: no such file or folder"),
        (("config", "c.yaml", "d.yaml"), "got unexpected extra argument (d.yaml)"),
        (("check", "nope"), "PATH nope: no such file or folder"),
        (("check", "it's"), "PATH it's: no such file or folder"),
        (("runs", "file"), "FOLDER file: it is a file, not a folder"),
        (("check", ".", "--nope"), "there is no option --nope; detflow check --help lists what "),
        (("check", ".", "--job"), "there is no option --job; did you mean --jobs or --json?"),
        (("check", ".", "--jobs", "x"), "--jobs: 'x' is not a whole number"),
        (("check", ".", "--jobs", "0"), "--jobs: 0 is not in the range x>=1"),
        (("check", ".", "--jobs"), "--jobs needs a value"),
        (("evaluate", "--score-threshold", "nan"), "--score-threshold: nan is not a finite number"),
        (("evaluate", "--score-threshold", "2"), "--score-threshold: 2.0 is not in the range 0<=x"),
        (("benchmark", ".", "--seconds", "inf"), "--seconds: inf is not a finite number"),
        (("serve", ".", "--max-delay-ms", "x"), "--max-delay-ms: 'x' is not a number"),
        (("config",), "name a configuration file, or pass --explain"),
    ],
)
def test_a_wrong_command_line_is_one_line_like_any_error(
    run, tmp_path, monkeypatch, arguments, message
):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"detflow: error: {message}")
    assert done.err.count("\n") == 1
