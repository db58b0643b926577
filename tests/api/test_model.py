import threading

import pytest

import detflow


@pytest.mark.tf
def test_an_export_is_loaded_and_detects(onnx_dir, pictures_dir, capfd):
    detector = detflow.load_detector(str(onnx_dir))
    names = [pictures_dir / f"p{number:02}.jpg" for number in range(6)]
    found = detector.predict(names)
    assert sum(map(len, found)) > 5
    assert {one.name for image in found for one in image} <= set(detector.label_map)
    predictions = detflow.predict([str(name) for name in names], onnx_dir)
    assert [image.detections for image in predictions.images] == found
    assert detflow.predict(names[0], onnx_dir).images[0].detections == found[0]
    assert capfd.readouterr() == ("", "")


@pytest.mark.tf
def test_a_model_is_judged(onnx_dir, records_dir, tmp_path, capfd):
    analysis = detflow.evaluate(onnx_dir, records_dir, split="val")
    assert 0.0 <= analysis.metrics["AP50"] <= 1.0
    assert list(analysis.class_metrics) == list(analysis.label_map)
    with pytest.raises(detflow.ArtifactError, match="no such file or folder"):
        detflow.load_detector(tmp_path / "nothing")
    assert capfd.readouterr() == ("", "")


@pytest.mark.tf
def test_training_returns_the_best_checkpoint_and_works_outside_of_the_main_thread(
    tiny_config, tmp_path, capfd
):
    """In a thread no signal handler can be set. The second call finds nothing left to do."""
    config = tiny_config(train_steps=2, evaluate_every_steps=2)
    results = []

    def train():
        results.append(detflow.train(config, model_dir=tmp_path / "run"))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    train()
    first, second = results
    assert (first.step, first.stopped_by) == (2, None)
    assert first.best_checkpoint == tmp_path / "run" / "ckpt-2"
    assert set(first.metrics) >= {"AP", "AP50"}
    assert second == first
    assert capfd.readouterr().out == ""
