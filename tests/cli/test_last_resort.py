import errno
import os

import pytest
from PIL import Image

from detflow.cli import data


@pytest.mark.parametrize(
    "error",
    [
        *(
            OSError(number, os.strerror(number))
            for number in (
                errno.ELOOP,
                errno.ENAMETOOLONG,
                errno.ESTALE,
                errno.EIO,
                errno.EMFILE,
                errno.ENOENT,
                errno.EUCLEAN,
                errno.EREMOTEIO,
                # Of a connection; stdout has a reader.
                errno.EPIPE,
            )
        ),
        OSError("a library's own words"),
        OSError(),
        MemoryError(),
    ],
)
def test_what_nobody_thought_of_is_one_line(run, monkeypatch, error):
    def fail(**arguments):
        raise error

    monkeypatch.setattr(data.config, "callback", fail)
    done = run("config", "c.yaml")
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith("detflow: error: ")
    assert done.err.count("\n") == 1
    with pytest.raises(type(error)):
        run("--debug", "config", "c.yaml")


def test_a_working_directory_that_is_gone(run, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (tmp_path / "set").mkdir()
    for arguments in (
        ("check", "."),
        ("make-records", tmp_path / "set", "--output", "out"),
        ("check", tmp_path / "set", "--report", "r.html"),
        ("config", "c.yaml"),
    ):
        done = run(*arguments)
        assert done.code in (2, 3, 5)
        assert done.err.splitlines()[-1].startswith("detflow: error: ")


def test_links_in_a_circle_and_names_too_long(run, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for place in (tmp_path / "a", tmp_path / "a" / "x", tmp_path / ("n" * 300)):
        for arguments in (
            ("check", place),
            ("config", place),
            ("init", place),
            ("make-records", tmp_path, "--output", place),
            ("convert", tmp_path, "--to", "voc", "--output", place),
            ("check", tmp_path, "--decisions", place),
            ("evaluate", "--model", place, "--records", place),
        ):
            done = run(*arguments)
            assert done.code in (2, 3, 4, 5), arguments
            assert done.err.splitlines()[-1].startswith("detflow: error: ")


def test_no_password_is_shown(run, tmp_path):
    url = "https://user:secret@host/x"
    (tmp_path / "c.yaml").write_text(f"data:\n  records: {url}\n")
    for arguments in (
        ("config", tmp_path / "c.yaml"),
        ("config", tmp_path / "c.yaml", "--set", f"data.records={url}"),
        (
            "config",
            tmp_path / "c.yaml",
            "--set",
            "data.records=x",
            "--set",
            f"train.init_from={url}",
        ),
        ("config", tmp_path / "c.yaml", "--set", url),
        ("check", url),
        ("check", tmp_path, "--dialect", url),
        ("check", tmp_path, "--classes", f"@{url}"),
        ("predict", url, "--model", tmp_path, "--output", tmp_path / "out"),
        ("make-records", tmp_path, "--output", url),
    ):
        done = run(*arguments)
        # What stands in for a model is looked at first: it is no export.
        assert done.code in ((4,) if arguments[0] == "predict" else (2, 3)), arguments
        assert "secret" not in done.err + done.out
        assert done.err


def test_links_in_a_circle_inside_a_dataset_are_findings(run, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "a.jpg")
    (folder / "a.xml").write_text(
        "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>3</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>"
    )
    before = run("check", folder, "--jobs", 1)
    assert before.code == 0
    (folder / "x").symlink_to("y")
    (folder / "y").symlink_to("x")
    (folder / "self").symlink_to(folder)
    (folder / "l.jpg").symlink_to("l.jpg")
    done = run("check", folder, "--jobs", 1)
    assert done.code == 0
    assert "1 usable" in done.out
    for name in ("x", "y"):
        assert f"  {name}: the link leads nowhere\n" in done.out
