"""W&B without a network: what a run says lies in its folder."""

import pytest

pytestmark = pytest.mark.slow


def test_a_run_without_a_key_is_written_to_the_model_directory(track, run, monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    (note,) = track("wandb")
    assert note.endswith("(offline: `wandb sync` uploads it)")
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    (log,) = folder.glob("*.wandb")
    # The file holds plain messages of protobuf.
    content = log.read_bytes()
    assert b"evaluation/AP" in content
    assert b"loss/total" in content
