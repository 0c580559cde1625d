"""Windows, scales, mirroring, padding and resizes against a float64 reference of each, with a runtime in NumPy."""

import numpy as np
import pytest

from keras_deeplab.inference.predictor import Predictor, predictor
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.specs import ModelSpec


class Blurred(Runtime):
    """Images to scores that see a neighbourhood: differences of each pixel's mean over 3x3, zeros around the image.

    `stride` leaves out rows and columns, so that scores have to be resized.
    """

    name = "the blurred"

    def __init__(self, classes=4, stride=1, returns="logits", sizes=(), resize="align_corners", multi_label=False):
        self.stride, self.returns, self.sizes, self.fed = stride, returns, sizes, []
        activation = None if returns == "logits" else "sigmoid" if classes == 1 or multi_label else "softmax"
        self.spec = ModelSpec(classes, resize=resize, activation=activation, multi_label=multi_label)
        self.mixing = np.random.default_rng(3).normal(0, 1 / 60, (3, classes))

    def scores(self, images):
        assert images.dtype == np.float32
        self.fed.append(images.shape[1:3])
        return self.scores64(images.astype(np.float64))[:, :: self.stride, :: self.stride].astype(np.float32)

    def scores64(self, images):
        height, width = images.shape[1:3]
        wide = np.pad(images - 90, ((0, 0), (1, 1), (1, 1), (0, 0)))
        mean = sum(wide[:, y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
        # The position in what is fed counts too, or a window moved by a pixel would go unseen.
        ramp = np.arange(height)[:, None] * 0.7 + np.arange(width) * 1.3
        scores = (mean + ramp[None, :, :, None]) @ self.mixing
        return scores if self.returns == "logits" else probabilities(scores, self.spec)


def probabilities(scores, spec):
    if not spec.exclusive:
        return 1 / (1 + np.exp(-scores))
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def resized(maps, size, resize="align_corners"):
    """Bilinear in float64, by linear interpolation along each axis."""
    for axis, new in ((1, size[0]), (2, size[1])):
        old = maps.shape[axis]
        if resize == "align_corners":
            at = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0)
        elif resize == "asymmetric":
            at = np.minimum(np.arange(new) * old / new, old - 1)
        else:
            at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.minimum(np.floor(at).astype(int), max(old - 2, 0))
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape([-1 if place == axis else 1 for place in range(4)])
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps


def whole(runtime, images):
    """Scores at the size of float64 images."""
    scores = runtime.scores64(images)[:, :: runtime.stride, :: runtime.stride]
    return resized(scores, images.shape[1:3], runtime.spec.resize)


def in_windows(runtime, images, size, stride):
    """The published loop: over the grid, with both ends cut at the image and the start moved back."""
    height, width = images.shape[1:3]
    total, count = 0.0, np.zeros((height, width, 1))
    for row in range(max(height - size[0] + stride[0] - 1, 0) // stride[0] + 1):
        for column in range(max(width - size[1] + stride[1] - 1, 0) // stride[1] + 1):
            bottom, right = min(row * stride[0] + size[0], height), min(column * stride[1] + size[1], width)
            top, left = max(bottom - size[0], 0), max(right - size[1], 0)
            here = np.zeros((*images.shape[:3], runtime.mixing.shape[1]))
            here[:, top:bottom, left:right] = whole(runtime, images[:, top:bottom, left:right])
            total = total + here
            count[top:bottom, left:right] += 1
    assert count.min() == 1
    return total / count


def at_scales(runtime, images, scales, flip, put=whole):
    """The list of probabilities at each scale, mirrored too."""
    found, size = [], images.shape[1:3]
    aligned = runtime.spec.align_corners
    for scale in scales:
        target = [int((side - 1) * scale + 1) if aligned else int(side * scale + 0.5) for side in size]
        scaled = resized(images, target, runtime.spec.resize)
        for mirrored in (False, True)[: 1 + flip]:
            scores = resized(put(runtime, scaled[:, :, ::-1] if mirrored else scaled), size, runtime.spec.resize)
            scores = scores[:, :, ::-1] if mirrored else scores
            found.append(probabilities(scores, runtime.spec) if runtime.returns == "logits" else scores)
    return found


def photographs(height, width, count=1, channels=3):
    return np.random.default_rng(height).integers(0, 256, (count, height, width, channels)).astype(np.uint8)


def padded(images, size):
    out = np.full((len(images), *size, images.shape[-1]), 127.5)
    out[:, : images.shape[1], : images.shape[2]] = images
    return out


def check(predict, images, expected):
    """Probabilities against float64 ones, and labels wherever those are no near tie."""
    runtime = predict.runtime
    if runtime.spec.binary:
        expected = np.concatenate([1 - expected, expected], -1)
    answer = predict.answer(images)
    assert answer.probabilities.dtype == np.float32
    np.testing.assert_allclose(answer.probabilities, expected, atol=2e-5)
    first, second = np.sort(expected, -1)[..., -1], np.sort(expected, -1)[..., -2]
    sure = first - second > 1e-4
    if not runtime.spec.multi_label:
        assert sure.mean() > 0.9
        np.testing.assert_array_equal(answer.labels[sure], expected.argmax(-1)[sure])
        np.testing.assert_array_equal(predict(images), answer.labels)
    assert len(np.unique(answer.labels)) > 1


SIZES = [(33, 41), (32, 40), (37, 18), (9, 50)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [1, 4])
def test_windows_are_those_of_mmsegmentation(size, stride):
    runtime, images = Blurred(stride=stride), photographs(*size, count=2)
    predict = predictor(runtime, windows=(20, 16), window_stride=(7, 16))
    expected = in_windows(runtime, images.astype(np.float64), (20, 16), (7, 16))
    check(predict, images, probabilities(expected, runtime.spec))
    assert {(min(size[0], 20), min(size[1], 16))} == set(runtime.fed)
    assert predict.protocol == "windows of 20x16 every 7x16 pixels (mean of scores)"


def test_windows_stand_two_thirds_of_their_size_apart():
    runtime, images = Blurred(), photographs(33, 41)
    expected = in_windows(runtime, images.astype(np.float64), (10, 13), (7, 9))
    check(predictor(runtime, windows=(10, 13)), images, probabilities(expected, runtime.spec))


def test_an_image_smaller_than_a_window_is_one_window():
    runtime, images = Blurred(), photographs(6, 5)
    predict = predictor(runtime, windows=20)
    check(predict, images, probabilities(whole(runtime, images.astype(np.float64)), runtime.spec))
    assert set(runtime.fed) == {(6, 5)}


def test_windows_of_a_model_of_one_size():
    """The image may be larger than the model takes, and smaller: then its one window is padded."""
    runtime, images = Blurred(sizes=((20, 20),)), photographs(50, 31)
    predict = predictor(runtime, windows=20, window_stride=11)
    expected = in_windows(runtime, images.astype(np.float64), (20, 20), (11, 11))
    check(predict, images, probabilities(expected, runtime.spec))
    small = photographs(7, 12)
    expected = whole(runtime, padded(small, (20, 20)))[:, :7, :12]
    check(predict, small, probabilities(expected, runtime.spec))
    with pytest.raises(ValueError, match=r"windows of 21x20 are larger than the blurred takes, 20x20"):
        predictor(runtime, windows=(21, 20))
    with pytest.raises(ValueError, match=r"larger than the input size 20x20.*windows=\(20, 20\)"):
        predictor(runtime)(images[0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", ["align_corners", "half_pixel_centers", "asymmetric"])
@pytest.mark.parametrize("flip", [False, True])
def test_scales_and_the_mirrored_image_are_averaged_as_probabilities(size, resize, flip):
    runtime, images = Blurred(resize=resize), photographs(*size)
    scales = (0.5, 1.0, 1.75)
    found = at_scales(runtime, images.astype(np.float64), scales, flip)
    check(predictor(runtime, scales=scales, flip=flip), images, np.mean(found, 0))
    assert len(runtime.fed) == 2 * len(found)  # once for the answer, once for the labels


@pytest.mark.parametrize("options", [{"classes": 1}, {"classes": 1, "returns": "probabilities"}, {"classes": 300}])
@pytest.mark.parametrize("average", ["mean", "max"])
def test_one_class_and_many(options, average):
    runtime, images = Blurred(**options), photographs(17, 25)
    predict = predictor(runtime, scales=(0.5, 1.0), flip=True, average=average)
    found = np.array(at_scales(runtime, images.astype(np.float64), (0.5, 1.0), True))
    if average == "mean":
        expected = found.mean(0)
    elif runtime.spec.binary:
        expected = found.max(0) / (found.max(0) + (1 - found).max(0))
    else:
        expected = found.max(0) / found.max(0).sum(-1, keepdims=True)
    check(predict, images, expected)


def test_classes_that_are_decided_by_themselves():
    runtime, images = Blurred(returns="probabilities", multi_label=True), photographs(17, 25)
    found = np.array(at_scales(runtime, images.astype(np.float64), (1.0,), True))
    check(predictor(runtime, flip=True), images, found.mean(0))
    expected = found.max(0) / (found.max(0) + (1 - found).max(0))
    check(predictor(runtime, flip=True, average="max"), images, expected)


def test_scales_of_windows_of_a_padded_image():
    """Padded, then scaled, then cut: each strategy is around the next."""
    runtime, images = Blurred(stride=2), photographs(30, 21)

    def put(runtime, images):
        return in_windows(runtime, images, (20, 20), (14, 14))

    found = at_scales(runtime, padded(images, (33, 41)), (0.75, 1.5), True, put)
    predict = predictor(runtime, (33, 41), scales=(0.75, 1.5), flip=True, windows=20)
    check(predict, images, np.mean(found, 0)[:, :30, :21])
    assert predict.input_size == (33, 41)
    assert predict.protocol == (
        "windows of 20x20 every 14x14 pixels (mean of scores), padded to 33x41, scales 0.75, 1.5 and mirrored (mean of "
        "probabilities)"
    )
    # What takes one size alone is seen at several scales in windows.
    fixed = Blurred(stride=2, sizes=((20, 20),))
    check(predictor(fixed, (33, 41), scales=(0.75, 1.5), flip=True, windows=20), images, np.mean(found, 0)[:, :30, :21])
    with pytest.raises(ValueError, match=r"the image is 34x21.*larger than the input size 33x41"):
        predict(photographs(34, 21)[0])


def test_the_padded_image_is_mirrored_whatever_pads_it():
    """As research/deeplab does: the padding is on the left of the mirrored one."""
    images = photographs(13, 17)
    for runtime in (Blurred(), Blurred(sizes=((20, 24),))):
        found = at_scales(runtime, padded(images, (20, 24)), (1.0,), True)
        check(predictor(runtime, (20, 24), flip=True), images, np.mean(found, 0)[:, :13, :17])


@pytest.mark.parametrize(("size", "longer", "target"), [((20, 31), None, (33, 51)), ((50, 20), 60, (60, 24))])
def test_the_shorter_side_is_scaled_and_scores_are_scaled_back(size, longer, target):
    runtime, images = Blurred(), photographs(*size)
    scaled = resized(images.astype(np.float64), target, "half_pixel_centers")
    expected = resized(whole(runtime, scaled), size)
    predict = predictor(runtime, shorter_side=33, longer_side=longer)
    check(predict, images, probabilities(expected, runtime.spec))
    assert set(runtime.fed) == {target}


def test_scales_hold_two_maps_however_many_there_are():
    """Peak of NumPy's memory, of 21 classes at six scales: a few maps of the image's size, not one for each view."""
    import tracemalloc

    class Cheap(Blurred):
        def scores(self, images):
            return np.zeros((*images.shape[:3], 21), np.float32)

    images = photographs(150, 200)
    one = 150 * 200 * 21 * 4
    predict = predictor(Cheap(21), scales=(0.5, 0.75, 1.0), flip=True)
    tracemalloc.start()
    predict.strategy(predict.runtime, images.astype(np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * one, peak / one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_stride": 3}, "window_stride is of windows, which are not asked for"),
        ({"windows": 3, "window_stride": (2, 4)}, "window_stride of 2x4 leaves gaps between windows of 3x3"),
        ({"average": "max"}, "average is of several scales or flip"),
        ({"average": "median", "flip": True}, "average must be one of mean, max"),
        ({"longer_side": 30}, "longer_side is the most that the longer side may have beside a shorter_side"),
        ({"shorter_side": 31, "longer_side": 30}, "no less than that; received 30 and 31"),
        ({"crf": "v3"}, "CRF parameters"),
        ({"window": 3}, "unknown option 'window': did you mean 'windows'"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        predictor(Blurred(), **options)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ("scales", {"scales": (0.5,)}),
        ("flip", {"flip": True}),
        ("windows", {"windows": 9}),
        ("shorter_side", {"shorter_side": 9}),
        ("crf", {"crf": "v2_vgg16"}),
    ],
)
def test_what_averages_scores_is_refused_of_labels(asked, options):
    class Labels(Blurred):
        def scores(self, images):
            return np.zeros(images.shape[:3], np.int64)

    runtime = Labels()
    runtime.returns = "labels"
    with pytest.raises(ValueError, match=f"{asked} can't be chosen for the blurred.*or export it with logits"):
        predictor(runtime, **options)
    assert predictor(runtime, 20).protocol == "whole image, padded to 20x20"


def test_a_crf_stands_behind_everything():
    from keras_deeplab import dense_crf

    runtime, images = Blurred(), photographs(30, 25)
    predict = predictor(runtime, flip=True, crf="v2_vgg16")
    before = predictor(runtime, flip=True).probabilities(images)
    np.testing.assert_allclose(predict.probabilities(images), dense_crf(images, before, "v2_vgg16"), atol=1e-6)
    assert predict.protocol == (
        "whole image, mirrored too (mean of probabilities), dense CRF v2_vgg16 (4/65/3,2/2), 10 iterations"
    )


def test_a_strategy_that_tells_nothing_is_told_by_its_name():
    class Mine:
        input_size = None

        def __call__(self, runtime, images):
            return runtime.scores(images), runtime.returns

    assert Predictor(Blurred(), Mine()).protocol == "Mine"
    binary = Blurred(1)
    assert predictor(binary, threshold=0.25).protocol == "whole image, threshold 0.25"


# Other runtimes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tflite", "onnx", "saved_model"])
def test_every_runtime_that_gives_scores_is_put_to_windows_scales_and_mirrors(kind, tmp_path):
    import keras

    from keras_deeplab.specs.model import with_spec

    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
    model = with_spec(keras.Model(inputs, keras.layers.Conv2D(3, 1)(x)))
    if kind == "tflite":
        from keras_deeplab import export_tflite

        path = export_tflite(model, tmp_path / "it.tflite", input_size=24, output="logits").path
    elif kind == "onnx":
        pytest.importorskip("onnxruntime")
        from keras_deeplab.export.onnx import export_onnx

        path = export_onnx(model, tmp_path / "it.onnx", output="logits").path
    else:
        from keras_deeplab import export_saved_model

        path = export_saved_model(model, tmp_path / "1")
    (image,) = photographs(50, 61)
    how = {"windows": 24, "scales": (0.75, 1.5), "flip": True}
    predict = predictor(path, **how)
    expected = predictor(model, **how).probabilities(image)
    # A SavedModel takes bytes, and pixels between two of them are rounded.
    np.testing.assert_allclose(predict.probabilities(image), expected, atol=2e-3 if kind == "saved_model" else 1e-4)
    assert predict.protocol.startswith("windows of 24x24 every 16x16 pixels (mean of scores), ")
