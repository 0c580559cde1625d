import threading

import keras
import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data.source import indexed
from keras_deeplab.inference.evaluation import evaluate, matrix_of
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.specs import Classes, ModelSpec

SIZES = [(12, 10), (12, 10), (9, 14), (7, 7)]


def read(index):
    rng = np.random.default_rng(index)
    height, width = SIZES[index]
    label = rng.integers(0, 3, (height, width)).astype(np.uint8)
    # The red channel gives the label away, so that a predictor can be right about it.
    image = np.stack([label * 50, label, label], -1).astype(np.uint8)
    label[0] = 255
    return image, label, f"sample {index}"


@pytest.fixture
def source():
    return indexed("four", ["zero", "one", "two"], len(SIZES), read)


def by_red(image):
    return image[..., 0] // 50


def test_counts_every_image_at_its_own_size(source):
    matrix = evaluate(by_red, source, progress=False)
    assert matrix.mean_iou == 1.0
    assert matrix.num_pixels == sum((height - 1) * width for height, width in SIZES)

    def wrong_below(image):
        labels = by_red(image)
        labels[5:] = (labels[5:] + 1) % 3
        return labels

    expected = ConfusionMatrix(3)
    for index in range(2):
        image, label, _ = read(index)
        expected.update(label, wrong_below(image))
    np.testing.assert_array_equal(evaluate(wrong_below, source, limit=2, progress=False).matrix, expected.matrix)


def test_takes_a_model(source):
    inputs = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(3, 1)
    model = keras.Model(inputs, layer(inputs))
    # Logits that are greatest for the class whose red value is nearest: 2 c x - c^2.
    kernel = np.zeros((1, 1, 3, 3), np.float32)
    kernel[0, 0, 0] = [0, 100, 200]
    layer.set_weights([kernel, -np.array([0, 2500, 10000], np.float32)])
    assert evaluate(model, source, progress=False).mean_iou == 1.0


def test_errors_name_the_sample(source):
    with pytest.raises(ValueError, match=r"^sample 0: prediction 7 .*classes 0\.\.2"):
        evaluate(lambda image: np.full(image.shape[:2], 7), source, progress=False)
    from keras_deeplab.inference.predictor import predictor

    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    with pytest.raises(ValueError, match=r"^sample 2: the image is 9x14 .*at least 14"):
        evaluate(predictor(model, 12), source, progress=False)
    with pytest.raises(ValueError, match=r"limit=0"):
        evaluate(by_red, source, limit=0, progress=False)


def test_a_sample_that_cannot_be_read_is_named(source):
    def broken(index):
        if index == 1:
            raise ValueError("photo7.jpg can't be decoded")
        return read(index)

    with pytest.raises(ValueError, match=r"photo7\.jpg can't be decoded"):
        evaluate(by_red, indexed("broken", source.classes, 4, broken), progress=False)


def test_pixels_are_counted_while_the_model_works(source):
    second, counted = threading.Event(), threading.Event()

    class Slow(ConfusionMatrix):
        def update(self, labels, predictions):
            counted.set()
            assert second.wait(20), "the second image waits for the first to be counted"
            super().update(labels, predictions)

    def predict(image):
        if calls and counted.wait(20):
            second.set()
        calls.append(image)
        return by_red(image)

    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_deeplab.inference.evaluation.ConfusionMatrix", Slow)
        assert evaluate(predict, source, progress=False).mean_iou == 1.0


def test_progress_shows_the_score_so_far(source, monkeypatch, capsys):
    monkeypatch.setattr(Progress, "due", lambda self: self.enabled)
    evaluate(by_red, source)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("evaluate 1/4, ")
    assert lines[-1] == "evaluate 4/4, 00:00 left, mIoU 1.0000"
    evaluate(by_red, source, progress=False)
    assert capsys.readouterr().err == ""


def test_the_module_is_called_like_its_function(source):
    import keras_deeplab

    assert keras_deeplab.evaluate(by_red, source, progress=False).mean_iou == 1.0
    assert data.__name__ == "keras_deeplab.data"


def test_a_record_with_names_and_no_number_of_channels_is_scored():
    spec = ModelSpec(None, classes=Classes(("sky", "road")))
    matrix, table = matrix_of(spec, Classes(("road", "sky")), 2, "names", "the data")
    assert matrix.classes == ("sky", "road")
    assert table[:2].tolist() == [1, 0]
