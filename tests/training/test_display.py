from types import SimpleNamespace

from detflow.training import display as module
from detflow.training.display import TrainingDisplay


def test_a_log_file_gets_plain_lines(capfd, monkeypatch):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    display = TrainingDisplay()
    with display.steps(0, 3, 8):
        display.step(1, 2.5)
        display.step(2, 2.25)
        display.evaluating(4)
        display.evaluated(2, {"AP": 0.5, "AP50": None, "AP75": 0.25}, 2, 3.4)
        display.step(3, 2.0)
    assert capfd.readouterr().err.splitlines() == [
        "compiling the first step",
        "step 1/3  loss 2.500",
        "step 2/3  loss 2.250  0.4 images/s  0:20 left",
        "step 2: AP 0.500  AP50 n/a  AP75 0.250  (best so far, 3 s)",
        "step 3/3  loss 2.000",
    ]
