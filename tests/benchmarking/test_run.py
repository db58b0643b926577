"""One measurement of an export, looked at from all sides; no time is compared with another."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from detflow.benchmarking.measurement import Measurement
from detflow.benchmarking.plot import draw_benchmark
from detflow.benchmarking.run import (
    BenchmarkOptions,
    benchmark_artifacts,
    parse_threads,
    print_benchmark,
)
from detflow.cli.main import cli
from detflow.data.judging.audit import AuditOptions
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.digests import seal
from detflow.errors import ArtifactError, ConfigError
from detflow.inference.evaluate import evaluate_detector
from detflow.inference.formats import find_format
from detflow.inference.load import load_detector

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def light_dir(export_dir, tmp_path_factory):
    """The export without the formats that take TensorFlow seconds, or OpenVINO, to load."""
    folder = tmp_path_factory.mktemp("light") / "artifact"
    shutil.copytree(export_dir, folder)
    card = json.loads((folder / "model.json").read_text())
    card["formats"] = {"onnx": card["formats"]["onnx"]}
    (folder / "model.json").write_text(json.dumps(seal(card)))
    return folder


@pytest.fixture(scope="module")
def own_records_dir(pictures_dir, light_dir, tmp_path_factory):
    """The pictures as records with the model's classes in the model's order."""
    output = tmp_path_factory.mktemp("own") / "records"
    classes = tuple(json.loads((light_dir / "model.json").read_text())["classes"])
    publish_records(
        pictures_dir,
        output,
        RecordOptions(audit=AuditOptions(classes=classes), jobs=1, report=False),
    )
    return output


@pytest.fixture(scope="module")
def measured(light_dir, own_records_dir, tmp_path_factory):
    output = tmp_path_factory.mktemp("benchmark") / "out"
    arguments = [
        "benchmark",
        light_dir,
        "--records",
        own_records_dir,
        "--split",
        "train",
        "--output",
        output,
    ]
    options = ["--threads", "1,2", "--seconds", "0.2", "--batch", "2"]
    cli.main([*map(str, arguments), *options], standalone_mode=False)
    return output


@pytest.mark.slow
def test_every_way_in_is_measured_by_itself(measured, light_dir, own_records_dir):
    report = json.loads((measured / "benchmark.json").read_text())
    card = json.loads((light_dir / "model.json").read_text())
    manifest = read_manifest(own_records_dir)
    evaluation = evaluate_detector(
        load_detector(light_dir),
        read_samples(own_records_dir, manifest, "train"),
        manifest.label_map,
    )
    expected = evaluation.metrics["AP"]
    assert expected is not None
    assert [(one["format"], one["signature"]) for one in report["formats"]] == [
        ("onnx", ""),
        ("onnx", "OpenCV"),
    ]
    for one in report["formats"]:
        assert one["bytes"] == card["formats"]["onnx"]["bytes"]
        assert one["cold_start_s"] > 0
        assert one["ap"] == pytest.approx(expected, abs=1e-3)
        assert one["ap_objects"] == sum(int(one.num_truths.sum()) for one in evaluation.rankings)
        assert list(one["by_threads"]) == ["1", "2"]
        for told in one["by_threads"].values():
            milliseconds = told["milliseconds"]
            assert set(milliseconds) == {"end_to_end", "decode", "detect", "network"}
            assert all(0 < values["p50"] <= values["p95"] for values in milliseconds.values())
            assert told["ratio"] == pytest.approx(
                milliseconds["end_to_end"]["p50"] / milliseconds["network"]["p50"]
            )
            assert told["runs"] >= 5
            assert told["images_per_second"] > 0
            assert 20e6 < told["peak_bytes"] < 2e9
    assert report["options"]["threads"] == [1, 2]
    times = {
        (f"{one['format']} {one['signature']}".rstrip(), int(threads)): told["milliseconds"][
            "end_to_end"
        ]["p50"]
        for one in report["formats"]
        for threads, told in one["by_threads"].items()
    }
    fastest = report["fastest"]
    assert (
        times[fastest["format"], fastest["threads"]]
        == fastest["end_to_end_ms"]
        == min(times.values())
    )


@pytest.mark.slow
def test_the_plot_has_every_format(measured):
    with Image.open(measured / "benchmark.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_a_plot_without_ap_says_so():
    told = {1: {"milliseconds": {"end_to_end": {"p50": 5.0, "p95": 6.0}}}}
    one = Measurement("a", "onnx", "", 10, 0.5, told, None)
    assert Image.open(io.BytesIO(draw_benchmark([one]))).width > 500


def test_the_table_ends_with_the_fastest_and_its_bare_network(capsys):
    def told(end_to_end, network):
        milliseconds = {
            "end_to_end": {"p50": end_to_end, "p95": 9.0},
            "network": {"p50": network, "p95": 8.0},
        }
        ratio = end_to_end / network
        return {
            "milliseconds": milliseconds,
            "ratio": ratio,
            "images_per_second": 9.0,
            "peak_bytes": 10**8,
        }

    onnx = Measurement("a", "onnx", "", 10, 0.5, {1: told(6.0, 5.0), 2: told(4.0, 3.2)}, 0.5)
    print_benchmark([Measurement("a", "frozen", "", 10, 0.5, {1: told(7.0, 5.0)}, 0.5), onnx])
    last = capsys.readouterr().out.splitlines()[-1]
    assert (
        last == "Fastest end to end: onnx, 2 threads: 4.0 ms, 1.25 times its bare network's 3.2 ms."
    )


@pytest.mark.parametrize(
    ("objects", "interval", "line"),
    [
        (19, (0.301, 0.524), "AP is of only 19 objects: it lies within 0.30–0.52 at 90 %."),
        (1, None, "AP is of only 1 object: too few images to tell where it lies."),
        (50, (0.301, 0.524), None),
        (None, None, None),
    ],
)
def test_an_ap_of_few_objects_has_its_range(objects, interval, line, capsys):
    milliseconds = {name: {"p50": 5.0, "p95": 6.0} for name in ("end_to_end", "network")}
    told = {"milliseconds": milliseconds, "ratio": 1.0, "images_per_second": 9.0}
    told["peak_bytes"] = None
    print_benchmark([Measurement("a", "onnx", "", 10, 0.5, {1: told}, 0.4, interval, objects)])
    shown = [row for row in capsys.readouterr().out.splitlines() if "AP is of" in row]
    assert shown == ([line] if line else [])


@pytest.mark.parametrize("text", ["", "0", "1,,2", "two", "-1", "１"])
def test_numbers_of_threads_are_numbers(text):
    with pytest.raises(ConfigError, match="--threads"):
        parse_threads(text)


def test_a_format_that_cannot_run_is_named(light_dir, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(light_dir, folder)
    (folder / "model.onnx").write_bytes(b"no model")
    card = json.loads((folder / "model.json").read_text())
    del card["files"]["model.onnx"]
    (folder / "model.json").write_text(json.dumps(seal(card)))
    with pytest.raises(
        ArtifactError, match=r"model\.onnx: it cannot be measured: .*not an ONNX model"
    ):
        benchmark_artifacts([folder], BenchmarkOptions(threads=(1,), seconds=0.1))


def test_records_of_other_classes_and_empty_splits_are_refused(light_dir, records_dir, tmp_path):
    with pytest.raises(ConfigError, match="no split"):
        benchmark_artifacts([light_dir], BenchmarkOptions(records=records_dir, split="test"))
    folder = tmp_path / "copy"
    shutil.copytree(light_dir, folder)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(seal(card | {"classes": ["disc"]})))
    with pytest.raises(ConfigError, match="other classes"):
        benchmark_artifacts([folder], BenchmarkOptions(records=records_dir, split="val"))


@pytest.mark.parametrize(
    ("name", "signature"),
    [("frozen", ""), ("saved_model", ""), ("onnx", ""), ("onnx", "OpenCV"), ("tflite", "")],
)
def test_the_bare_network_is_found_in_every_file(name, signature, export_dir):
    known = find_format(name)
    entry = next(entry for entry in known.entries if entry.signature == signature)
    run = known.load_bare_network(export_dir / entry.path, entry, (64, 64), threads=1)
    outputs = run()
    if name == "tflite":
        assert set(outputs) == {"boxes", "classes", "scores", "count"}
        return
    boxes, scores = (np.asarray(values) for values in outputs)
    scores = scores if known.runtime == "tensorflow" else scores.transpose(0, 2, 1)
    assert boxes.size // 4 == scores.size // 3 > 50
    assert (boxes.shape[0], boxes.shape[-1], scores.shape[0], scores.shape[-1]) == (1, 4, 1, 3)
    assert np.isfinite(scores).all()
