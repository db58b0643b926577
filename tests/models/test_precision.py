import sys

import pytest

from detflow.models import precision
from detflow.models.precision import is_native, resolve_precision


@pytest.mark.parametrize(
    ("capability", "flags", "expected"),
    [
        (None, {"avx2"}, "float32"),
        (None, {"avx2", "avx512_bf16"}, "bfloat16"),
        (None, {"avx512_fp16"}, "float32"),
        ((8, 9), {"avx2"}, "bfloat16"),
        ((7, 5), {"avx2", "avx512_bf16"}, "float16"),
        ((6, 1), {"avx2", "avx512_bf16"}, "float32"),
    ],
)
def test_auto_takes_what_the_device_that_trains_is_fast_in(
    monkeypatch, capability, flags, expected
):
    monkeypatch.setattr(precision, "_gpu_capability", lambda: capability)
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert resolve_precision("auto") == expected
    assert is_native("float32")


def test_without_onednn_a_cpu_is_slow_in_it(monkeypatch):
    monkeypatch.setattr(precision, "_gpu_capability", lambda: None)
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert resolve_precision("auto") == "float32"


def test_a_format_that_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(precision, "cpu_flags", set)
    assert resolve_precision("bfloat16") == "bfloat16"


def test_a_machine_without_a_gpu_is_judged_without_tensorflow(monkeypatch):
    monkeypatch.setattr(precision, "_GPU_DEVICES", ())
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert resolve_precision("auto") in ("float32", "bfloat16")
