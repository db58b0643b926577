"""W&B without a network: what a run says lies in its folder."""

import time

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
    # The file holds plain messages of protobuf. A process of W&B's own writes it, and may still do
    # so when the run is over.
    end = time.monotonic() + 60
    while b"evaluation/AP" not in (content := log.read_bytes()):
        assert time.monotonic() < end, content
        time.sleep(0.05)
    assert b"loss/total" in content
