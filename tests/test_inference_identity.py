"""A record decides what the answers are: resize convention, binary and multi-label models, channels, outputs."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab.data.source import indexed
from keras_deeplab.inference import answers, strategies
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.predictor import Predictor, predictor
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.inference.runtimes.keras_model import KerasRuntime
from keras_deeplab.specs import Classes, ModelSpec
from keras_deeplab.specs.model import spec_of, with_spec


def classifier():
    """A classifier of stride 16 and a few layers."""
    inputs = keras.Input((None, None, 3))
    x = inputs
    for filters in (4, 6, 8, 8):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    return keras.Model(inputs, x, name="small")


def images(height=33, width=41, channels=3, count=1):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels)).astype(np.uint8)


def tiny(count=3, channels=3, activation=None, strides=2, **changes):
    """A model of a few layers with a record, at stride 2."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, channels))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 5, strides, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(count, 1, activation=activation)(x)
    return with_spec(keras.Model(inputs, x), **changes)


# How logits are resized doesn't depend on the builder: of DeepLab v3 one flavour for each convention, and the refused.
REFUSED = [name for name, row in keras_deeplab.FLAVOURS.items() if row.scaled_logits]
CONVENTIONS = {
    (row.align_corners, row.half_pixel_centers): name
    for name, row in keras_deeplab.FLAVOURS.items()
    if name not in REFUSED
}
UPSAMPLED = [("DeepLabV3Plus", name) for name in keras_deeplab.FLAVOURS]
UPSAMPLED += [("DeepLabV3", name) for name in (*CONVENTIONS.values(), *REFUSED)]


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "flavour"), UPSAMPLED)
def test_labels_are_the_same_whether_the_model_or_the_caller_upsamples(builder, flavour):
    make = getattr(keras_deeplab, builder)
    settings = {"num_classes": 9, "flavour": flavour, "filters": 8}
    if flavour in REFUSED:
        with pytest.raises(ValueError, match="scales its logits and cuts what is over"):
            make(classifier(), upsample_logits=False, **settings)
        return
    whole = randomise(make(classifier(), **settings))
    (image,) = images(81, 97)
    # So that no class wins everywhere.
    bias = whole.get_layer("logits").bias
    if bias is not None:
        bias.assign_sub(np.mean(whole(image[None].astype(np.float32)), (0, 1, 2)))
    coarse = make(classifier(), upsample_logits=False, **settings)
    coarse.set_weights(whole.get_weights())
    expected = predictor(whole)(image)
    assert len(np.unique(expected)) > (1 if bias is None else 4)
    assert coarse.spec.logits_stride > 1
    np.testing.assert_array_equal(predictor(coarse)(image), expected)
    # By way of the scores, not only where they become labels at once.
    found = predictor(coarse).probabilities(image)
    np.testing.assert_array_equal(found.argmax(-1), expected)


def test_the_convention_of_a_plain_model_is_that_of_its_resizes_else_a_stated_one():
    from keras_deeplab.layers import ResizeBilinear

    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(3, 3, 4, padding="same")(inputs)
    assert spec_of(keras.Model(inputs, x)).resize == "align_corners"
    y = ResizeBilinear(False)([keras.layers.Conv2D(3, 3, 2, padding="same")(x), x])
    assert spec_of(keras.Model(inputs, y)).resize == "half_pixel_centers"


def test_a_plain_21_class_model_is_not_called_voc():
    inputs = keras.Input((None, None, 3))
    spec = predictor(keras.Model(inputs, keras.layers.Conv2D(21, 1)(inputs))).spec
    assert spec.classes == Classes()
    assert spec.labels[:2] == ("class 0", "class 1")


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_channel_is_thresholded(activation):
    model = tiny(1, activation=activation, classes=Classes(("background", "crack")))
    (image,) = images()
    scores = np.asarray(strategies.resized(model(image[None].astype("float32")), (33, 41), model.spec))[0, ..., 0]
    probability = scores if activation else 1 / (1 + np.exp(-scores.astype(np.float64)))
    predict = predictor(model)
    assert predict.num_labels == 2
    labels = predict(image)
    assert set(np.unique(labels)) == {0, 1}
    np.testing.assert_array_equal(labels, probability > 0.5)
    found = predict.probabilities(image)
    np.testing.assert_allclose(found[..., 1], probability, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    high = float(np.quantile(probability, 0.9))
    labels = predictor(model, threshold=high)(image)
    np.testing.assert_array_equal(labels, probability > high)
    assert 0 < labels.mean() < 0.2


def test_a_multi_label_model_has_several_labels_or_none():
    model = tiny(3, activation="sigmoid", classes=Classes(("a", "b", "c")))
    assert model.spec.multi_label
    (image,) = images()
    answer = predictor(model, threshold=0.6).answer(image)
    assert answer.masks.shape == answer.probabilities.shape == (33, 41, 3)
    np.testing.assert_array_equal(answer.masks, answer.probabilities > 0.6)
    assert answer.masks.sum(-1).max() > 1
    nothing = ~answer.masks.any(-1)
    assert nothing.any()
    assert not nothing.all()
    np.testing.assert_array_equal(answer.labels[nothing], 255)
    np.testing.assert_array_equal(answer.labels[~nothing], answer.probabilities.argmax(-1)[~nothing])
    source = indexed("data", ["a", "b", "c"], 1, lambda index: (image, np.zeros((33, 41), np.uint8), "x"))
    with pytest.raises(ValueError, match="decides each class by itself"):
        evaluate(model, source, progress=False)


@pytest.mark.parametrize("threshold", [0, 1, True, "0.5", float("nan")])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match="threshold must be a finite number, greater than 0 and less than 1"):
        predictor(tiny(1), threshold=threshold)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_images_of_other_channels(channels):
    model = tiny(3, channels)
    (image,) = images(channels=channels)
    predict = predictor(model, (48, 48))
    assert predict.channels == channels
    padded = np.full((1, 48, 48, channels), 127.5, np.float32)
    padded[0, :33, :41] = image
    expected = strategies.resized(model(padded), (48, 48), model.spec)
    np.testing.assert_array_equal(predict(image), np.argmax(expected, -1)[0, :33, :41])
    with pytest.raises(ValueError, match=rf"shape \(H, W, {channels}\).*received \(33, 41, 3\)"):
        predict(images()[0])
    assert predictor(model, scales=(0.5, 1.0), flip=True)(image).shape == (33, 41)


@pytest.mark.slow
def test_an_auxiliary_output_is_left_aside():
    settings = {"num_classes": 3, "filters": 16, "flavour": "torchvision"}
    both = randomise(keras_deeplab.DeepLabV3("mobilenet_v3_small", auxiliary_head=True, **settings))
    main = keras_deeplab.DeepLabV3("mobilenet_v3_small", **settings)
    values = {variable.path: variable for variable in both.weights}
    for variable in main.weights:
        variable.assign(values[variable.path])
    assert both.spec.outputs == ("logits", "auxiliary_logits")
    (image,) = images()
    np.testing.assert_array_equal(predictor(both)(image), predictor(main)(image))
    np.testing.assert_array_equal(predictor(both).probabilities(image), predictor(main).probabilities(image))


def test_answers_of_a_batch_are_those_of_its_images():
    predict = predictor(randomise(tiny()))
    batch = images(count=3)
    answer = predict.answer(batch)
    np.testing.assert_array_equal(answer.labels, predict(batch))
    np.testing.assert_array_equal(answer.labels, answer.probabilities.argmax(-1))
    np.testing.assert_array_equal(answer.labels, answer.masks.argmax(-1))
    np.testing.assert_allclose(answer.confidence, answer.probabilities.max(-1))
    np.testing.assert_array_equal(predict.answer(batch[1]).labels, answer.labels[1])


class Constant(Runtime):
    """The brightness of a pixel as the score of the last class."""

    name, channels = "the constant", 3

    def __init__(self, returns="logits"):
        self.returns = returns
        self.spec = ModelSpec(2, resize="half_pixel_centers")

    def scores(self, images):
        brightness = images.mean(-1) / 255
        return brightness > 0.5 if self.returns == "labels" else np.stack([1 - brightness, brightness], -1)


class Upside(strategies.WholeImage):
    """Sees the image upside down."""

    def __call__(self, runtime, images):
        scores, returns = super().__call__(runtime, images[:, ::-1])
        return scores[:, ::-1], returns


def test_a_runtime_and_a_strategy_from_outside(monkeypatch):
    (image,) = images()
    expected = image.astype(np.float32).mean(-1) / 255 > 0.5
    np.testing.assert_array_equal(predictor(Constant())(image), expected)
    np.testing.assert_array_equal(Predictor(Constant("labels"))(image), expected)
    monkeypatch.setitem(strategies.STRATEGIES, "upside", Upside)
    model = tiny()
    turned = predictor(model, strategy="upside")(image)
    np.testing.assert_array_equal(turned, predictor(model)(image[::-1])[::-1])
    assert (turned != predictor(model)(image)).any()
    with pytest.raises(ValueError, match="strategy must be one of whole, tiles, upside"):
        predictor(model, strategy="upsid")
    with pytest.raises(ValueError, match="returns labels, and labels can't be averaged"):
        predictor(Constant("labels"), flip=True)
    with pytest.raises(ValueError, match="returns labels alone, and the strategy Upside needs scores"):
        predictor(Constant("labels"), strategy="upside")
    with pytest.raises(ValueError, match="returns labels alone, so there are no probabilities"):
        Predictor(Constant("labels")).probabilities(image)


@pytest.mark.slow
def test_labels_at_once_equal_labels_from_scores():
    (image,) = images(35, 29)
    for model in (tiny(), tiny(1), tiny(4, activation="softmax"), tiny(3, activation="sigmoid")):
        predict = predictor(model)
        assert predict.runtime.labels(image[None].astype(np.float32), 35, 29, 0.5) is not None
        scores, returns = predict.strategy(KerasRuntime(model), image[None].astype(np.float32))
        np.testing.assert_array_equal(predict(image), answers.labels_of(scores, model.spec, returns)[0])


# Classes --------------------------------------------------------------------------------------------------------


def by_red(classes):
    """A model that tells labels from red values of 50 each, and its record."""
    inputs = keras.Input((None, None, 3))
    count = len(classes)
    layer = keras.layers.Conv2D(count, 1)
    model = keras.Model(inputs, layer(inputs))
    values = 50 * np.arange(count, dtype=np.float32)
    kernel = np.zeros((1, 1, 3, count), np.float32)
    kernel[0, 0, 0] = 2 * values
    layer.set_weights([kernel, -(values**2)])
    return with_spec(model, classes=Classes(tuple(classes)))


def labelled(classes, order):
    """A data set whose label `i` is painted in the red of the model's label `order[i]`."""

    def read(index):
        label = np.random.default_rng(index).integers(0, len(classes), (12, 10)).astype(np.uint8)
        image = np.zeros((12, 10, 3), np.uint8)
        image[..., 0] = 50 * np.array(order)[label]
        return image, label, f"sample {index}"

    return indexed("data", list(classes), 2, read)


def test_classes_are_compared_by_name():
    model = by_red(["sky", "road", "tree"])
    assert evaluate(model, labelled(["sky", "road", "tree"], [0, 1, 2]), progress=False).mean_iou == 1.0
    swapped = labelled(["road", "sky", "tree"], [1, 0, 2])
    with pytest.raises(ValueError, match=r"not the model's.*order differs.*class_map"):
        evaluate(model, swapped, progress=False)
    matrix = evaluate(model, swapped, class_map="names", progress=False)
    assert matrix.mean_iou == 1.0
    assert matrix.classes == ("sky", "road", "tree")
    assert matrix.table().splitlines()[1].startswith("sky")
    with pytest.raises(ValueError, match=r"not the model's.*Data: sky, street, tree, cow"):
        evaluate(model, labelled(["sky", "street", "tree", "cow"], [0, 1, 2, 0]), progress=False)


def test_classes_are_mapped_by_option():
    model = by_red(["sky", "road", "tree"])
    source = labelled(["cow", "street", "tree"], [0, 1, 2])
    matrix = evaluate(model, source, class_map={"street": "road", "cow": None}, progress=False)
    labels = np.concatenate([np.random.default_rng(index).integers(0, 3, (12, 10)).ravel() for index in range(2)])
    assert matrix.num_pixels == (labels != 0).sum()
    assert matrix.mean_iou == 1.0
    with pytest.raises(ValueError, match="class_map names 'roda'"):
        evaluate(model, source, class_map={"street": "roda"}, progress=False)
    with pytest.raises(ValueError, match="no class of the data is one of the model's"):
        evaluate(by_red(["x", "y", "z"]), source, class_map="names", progress=False)


def test_unnamed_classes_are_compared_by_number():
    model = by_red(["sky", "road", "tree"])
    unnamed = with_spec(keras.Model(model.inputs, model.outputs[0]))
    assert unnamed.spec.classes.names is None
    source = labelled(["a", "b", "c"], [0, 1, 2])
    assert evaluate(unnamed, source, progress=False).classes == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"the model has 3 classes .*data has 2"):
        evaluate(unnamed, labelled(["a", "b"], [0, 1]), progress=False)


def test_a_record_that_is_not_the_models_is_refused():
    model = tiny(3)
    with pytest.raises(ValueError, match=r"not its own: num_classes 4, the model has 3"):
        with_spec(model, replace(model.spec, num_classes=4))
    with pytest.raises(ValueError, match=r"received 2 class names .*has 3 classes"):
        with_spec(model, classes=Classes(("a", "b")))


@pytest.mark.parametrize("options", [{}, {"flip": True}])
def test_many_classes_have_labels_of_one_type_whatever_the_image_shows(options):
    inputs = keras.Input((None, None, 3))
    scores = keras.layers.Conv2D(300, 1, bias_initializer="zeros", kernel_initializer="zeros")(inputs)
    labels = predictor(keras.Model(inputs, scores), **options)(images()[0])
    assert labels.max() == 0
    assert labels.dtype == np.int32
