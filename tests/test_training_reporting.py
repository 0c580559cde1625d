"""The callbacks that show a training, in a `fit` of one's own: the page, and TensorBoard's files."""

import json

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.data.source import indexed
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.metrics import ConfusionMatrix, MeanIoU
from keras_deeplab.reports.history import read_run
from keras_deeplab.training.callbacks import RunReport, TensorBoardPanels, TrainingRun, Validation
from keras_deeplab.training.losses import SparseCategoricalCrossentropy

NAMES = ["background", "bar", "never"]


def pair(index):
    label = np.zeros((8, 8), np.uint8)
    label[:, : index + 2] = 1
    return np.repeat(label[..., None] * 200, 3, axis=2), label


@pytest.fixture(scope="module")
def source():
    return indexed("bars", NAMES, 5, lambda index: (*pair(index), f"bar {index}"))


def tiny():
    keras.utils.set_random_seed(1)
    layers = [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(3, 1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.5), SparseCategoricalCrossentropy(), metrics=[MeanIoU(3)])
    return model


def fit(model, callbacks, epochs=2, validated=True):
    images, labels = map(np.stack, zip(*(pair(index) for index in range(4)), strict=True))
    options = {"validation_data": (images[1:], labels[1:])} if validated else {}
    model.fit(images, labels, batch_size=2, epochs=epochs, verbose=0, callbacks=callbacks, **options)
    return images, labels


@pytest.mark.slow
def test_a_fit_of_ones_own_has_a_page_with_the_scores_of_each_class(tmp_path, source):
    model = tiny()
    images, labels = fit(model, [RunReport(tmp_path / "run", source, pictures=2, keep_history=True)])
    run = read_run(tmp_path / "run")
    assert [record["step"] for record in run.records] == [2, 4]
    assert run.classes == tuple(NAMES)
    last = run.records[-1]
    assert last["learning_rate"] == 0.5
    assert last["loss"] < run.records[0]["loss"]
    matrix = ConfusionMatrix(3)
    matrix.update(labels[1:], model.predict(images[1:], verbose=0).argmax(-1))
    assert last["validation_iou"] == [None if np.isnan(value) else value for value in matrix.iou]
    assert last["validation_mean_iou"] == pytest.approx(matrix.mean_iou)
    assert last["validation_loss"] == pytest.approx(model.evaluate(images[1:], labels[1:], verbose=0)[0], rel=1e-4)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Step 4," in page
    assert page.count("<figcaption>bar ") == 2
    assert ": step 4</figcaption>" in page
    shown = cv2.imread(str(tmp_path / "run" / "pictures" / "01.png"))[..., ::-1]
    assert sorted(path.name for path in (tmp_path / "run" / "pictures").iterdir()) == ["01.png", "02.png"]
    predicted = predictor(model)(pair(0)[0])
    assert ((shown[19 : 19 + 256, 2 * 262 :][::32, ::32] > 0).any(-1) == (predicted > 0)).all()


@pytest.mark.slow
def test_the_page_follows_the_history_that_a_training_run_keeps(tmp_path, source):
    model = tiny()
    kept = TrainingRun(tmp_path / "run", config={"classes": NAMES}, log=lambda line: None)
    kept.restore(model)
    report = RunReport(tmp_path / "run")
    seen = []
    spy = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: seen.append("Step 2," in (tmp_path / "run" / "report.html").read_text("utf-8"))
    )
    fit(model, [Validation(source), kept, report, spy], epochs=1)
    assert seen == [True]
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Never predicted" not in page
    assert page.count("<svg") == 3 + sum(value is not None for value in kept.state["history"][0]["validation_iou"])
    before = (tmp_path / "run" / "report.html").stat().st_ino
    report.update(last=True)
    assert (tmp_path / "run" / "report.html").stat().st_ino == before  # nothing new, nothing written


def test_the_page_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n')
    now, written = [0.0], []

    def write(path):
        written.append(now[0])
        now[0] += 1.0

    monkeypatch.setattr("keras_deeplab.training.callbacks.reporting.time.monotonic", lambda: now[0])
    monkeypatch.setattr("keras_deeplab.training.callbacks.reporting.write_report", write)
    report = RunReport(tmp_path)
    for step in range(2, 500):
        now[0] += 1.0
        (tmp_path / "history.jsonl").write_text(json.dumps({"step": step}) + "\n")
        report.on_epoch_end(step)
    assert written[1] - written[0] == pytest.approx(51, abs=1)
    assert 9 <= len(written) <= 11
    count = len(written)
    (tmp_path / "history.jsonl").write_text('{"step": 501}\n')
    report.on_train_end()
    assert len(written) == count + 1


def test_an_error_of_the_page_is_told_once_and_ends_nothing(tmp_path, monkeypatch, source):
    monkeypatch.setattr(
        "keras_deeplab.training.callbacks.reporting.write_report",
        lambda *_: (_ for _ in ()).throw(OSError("disk full")),
    )
    lines = []
    model = tiny()
    fit(model, [RunReport(tmp_path, keep_history=True, log=lines.append)], epochs=3)
    assert int(model.optimizer.iterations) == 6
    assert lines == ["the page of the run can't be written, and the training goes on without it: disk full"]


def events(folder):
    """(step, tag, value) of what TensorFlow wrote: a number, or a picture."""
    found = []
    for file in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                picture = value.image.encoded_image_string if value.HasField("image") else None
                if picture is not None:
                    picture = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
                found.append((event.step, value.tag, value.simple_value if picture is None else picture))
    return found


@pytest.mark.slow
def test_tensorboard_has_numbers_and_pictures(tmp_path, source):
    model = tiny()
    history = keras.callbacks.History()
    fit(model, [TensorBoardPanels(tmp_path / "logs", source, pictures=3), history])
    found = events(tmp_path / "logs")
    numbers = {(step, tag): value for step, tag, value in found if not isinstance(value, np.ndarray)}
    for index, step in enumerate((2, 4)):
        assert numbers[step, "loss"] == pytest.approx(history.history["loss"][index])
        assert numbers[step, "validation/loss"] == pytest.approx(history.history["val_loss"][index])
        assert numbers[step, "learning_rate"] == 0.5
        told = [
            numbers[step, f"validation/iou/{name}"] for name in NAMES if (step, f"validation/iou/{name}") in numbers
        ]
        assert np.mean(told) == pytest.approx(numbers[step, "validation/mean_iou"], rel=1e-6)
    pictures = [(step, tag) for step, tag, value in found if isinstance(value, np.ndarray)]
    assert pictures == [(step, f"images/bar {index}") for step in (2, 4) for index in range(3)]
    assert all(value.shape[1] == 3 * 256 + 12 for *_, value in found if isinstance(value, np.ndarray))


def test_tensorboard_without_validation_and_source_has_the_logs(tmp_path):
    fit(tiny(), [TensorBoardPanels(tmp_path / "logs")], validated=False, epochs=1)
    assert {tag for _, tag, _ in events(tmp_path / "logs")} == {"loss", "mean_iou", "learning_rate"}
