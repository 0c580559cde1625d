"""DeepLab v3 and v3+: sizes, policies, taps, saving, counts."""

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab.backbones import preprocessing

BUILDERS = {"v3": keras_deeplab.DeepLabV3, "v3+": keras_deeplab.DeepLabV3Plus}


def small_classifier(channels=3, name="small"):
    """A classifier of a few layers with strides 2 to 32, for tests of everything around it."""
    inputs = keras.Input((None, None, channels))
    x = inputs
    for filters in (4, 8, 8, 12, 16):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    return keras.Model(inputs, x, name=name)


def build(builder="v3+", **settings):
    settings = {"num_classes": 5, "filters": 8, **settings}
    return randomise(BUILDERS[builder](settings.pop("backbone", small_classifier()), **settings))


def call(model, x):
    return keras.ops.convert_to_numpy(model(x))


def pixels(height, width, batch=1, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, channels)).astype("uint8")


@pytest.mark.slow
@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("size", [(65, 65), (64, 64), (48, 97), (33, 20), (5, 3), (1, 1)])
def test_logits_have_the_size_of_the_image(builder, size):
    for output_stride in (8, 16, 32):
        logits = call(build(builder, output_stride=output_stride), pixels(*size))
        assert logits.shape == (1, *size, 5)
        assert logits.dtype == np.float32
        assert np.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("builder", BUILDERS)
def test_static_and_dynamic_sizes_give_the_same(builder):
    dynamic = build(builder)
    static = build(builder, input_shape=(50, 67, 3))
    static.set_weights(dynamic.get_weights())
    x = pixels(50, 67, batch=2)
    np.testing.assert_allclose(call(static, x), call(dynamic, x), atol=1e-5 * np.abs(call(dynamic, x)).max())


@pytest.mark.slow
def test_predict_takes_several_sizes_in_a_row():
    """Dynamic sizes in graph mode: what keras.ops.image.resize can't do."""
    model = build()
    for size in [(33, 47), (64, 64), (17, 90)]:
        assert model.predict(pixels(*size), verbose=0).shape == (1, *size, 5)


@pytest.mark.parametrize("num_classes", [1, 2, 300])
def test_any_number_of_classes(num_classes):
    assert call(build(num_classes=num_classes), pixels(33, 33)).shape == (1, 33, 33, num_classes)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_float32_logits_near_the_float32_ones(policy):
    reference = build()
    keras.config.set_dtype_policy(policy)
    try:
        model = build()
        model.set_weights(reference.get_weights())
        computed_in = {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
        assert computed_in == {policy.removeprefix("mixed_"), "float32"}  # the classifier's own convolution
        x = pixels(65, 65)
        expected, got = call(reference, x), call(model, x)
        assert got.dtype == np.float32
        difference = np.abs(got - expected).max() / np.abs(expected).max()
        assert 0 < difference < (0.01 if policy == "mixed_float16" else 0.1)
        with_loss = keras_deeplab.training.losses.SparseCategoricalCrossentropy()
        model.compile("sgd", with_loss, jit_compile=False)
        labels = np.zeros((1, 65, 65), "int32")
        assert np.isfinite(model.fit(x, labels, verbose=0).history["loss"][0])
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("builder", BUILDERS)
def test_a_model_saves_and_reloads(builder, tmp_path):
    model = build(builder, output_stride=8)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = pixels(40, 51)
    np.testing.assert_array_equal(call(again, x), call(model, x))
    assert keras_deeplab.load(tmp_path / "model.keras").output_shape == model.output_shape


@pytest.mark.slow
def test_rates_are_tied_to_the_output_stride():
    for output_stride, rates in [(32, [3, 6, 9]), (16, [6, 12, 18]), (8, [12, 24, 36])]:
        plain = build("v3", output_stride=output_stride)
        assert [plain.get_layer(f"aspp{i}").dilation_rate[0] for i in (1, 2, 3)] == rates
        separable = build("v3+", output_stride=output_stride)
        assert [separable.get_layer(f"aspp{i}_depthwise").dilation_rate[0] for i in (1, 2, 3)] == rates
    assert build("v3", atrous_rates=(2, 4)).get_layer("aspp2").dilation_rate == (4, 4)
    with pytest.raises(ValueError, match="aspp1"):
        build("v3", atrous_rates=()).get_layer("aspp1")


@pytest.mark.slow
def test_heads_can_be_plain_separable_or_without_the_image_level():
    assert type(build("v3+", separable=False).get_layer("decoder_conv0")).__name__ == "Conv2D"
    names = [layer.name for layer in build("v3", image_pooling=False).layers]
    assert not any("image_pooling" in name for name in names)
    assert call(build("v3", image_pooling=False, atrous_rates=()), pixels(33, 33)).shape == (1, 33, 33, 5)


def test_the_decoder_taps_the_last_map_at_stride_4_or_the_named_layer():
    classifier = small_classifier()
    named = classifier.layers[4].name
    model = build(backbone=classifier, low_level=named)
    assert model.get_layer("feature_projection0").input.shape[-1] == 4
    assert build().get_layer("feature_projection0").input.shape[-1] == 8
    with pytest.raises(ValueError, match=r"'nowhere' is no layer of 'small'.*\(4\)"):
        build(low_level="nowhere")


@pytest.mark.slow
def test_a_classifier_with_its_top_and_imagenet_head_is_cut_before_them():
    classifier = keras.applications.MobileNet(weights=None, input_shape=(64, 64, 3))
    model = keras_deeplab.DeepLabV3Plus(classifier, num_classes=2, filters=8)
    assert model.input_shape == (None, None, None, 3)
    assert not any(layer.name in ("conv_preds", "global_average_pooling2d") for layer in model.layers)
    assert model.get_layer("conv_dw_13").dilation_rate == (2, 2)
    assert np.array_equal(model.get_layer("conv1").get_weights()[0], classifier.get_layer("conv1").get_weights()[0])


@pytest.mark.slow
def test_pixels_are_normalised_inside_the_model():
    x = pixels(33, 33)
    weights = build(include_preprocessing=False).get_weights()

    def logits(mode, images):
        model = build(include_preprocessing=mode)
        model.set_weights(weights)
        return call(model, images)

    as_given = x.astype("float32")
    np.testing.assert_allclose(logits("tf", x), logits(False, as_given / 127.5 - 1), rtol=1e-4, atol=1e-3)
    torch = (as_given / 255 - preprocessing.MEAN) / np.array(preprocessing.STD)
    np.testing.assert_allclose(logits("torch", x), logits(False, torch.astype("float32")), rtol=1e-4, atol=1e-3)
    caffe = keras.applications.vgg16.preprocess_input(as_given.copy())
    np.testing.assert_allclose(logits("caffe", x), logits(False, caffe), rtol=1e-4, atol=1e-2)
    # A classifier of the user's own, of which nothing is known, gets the pixels.
    np.testing.assert_array_equal(logits(True, x), logits(False, as_given))
    with pytest.raises(ValueError, match="received 'imagenet'"):
        build(include_preprocessing="imagenet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("MobileNetV2", "mobilenet_v2"),
        ("MobileNet", "mobilenet"),
        ("ResNet50", "resnet50"),
        ("ResNet50V2", "resnet_v2"),
        ("DenseNet121", "densenet"),
        ("VGG16", "vgg16"),
        ("MobileNetV3Small", "mobilenet_v3"),
        ("EfficientNetB0", "efficientnet"),
        ("NASNetMobile", "nasnet"),
    ],
)
def test_the_normalisation_of_keras_applications_is_known(name, module):
    """Against what Keras itself does in the module's preprocess_input."""
    network = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))
    inputs = keras.Input((None, None, 3))
    ours = keras.Model(inputs, preprocessing.normalise(preprocessing.applications_mode(network.name))(inputs))
    x = pixels(5, 7).astype("float32")
    theirs = getattr(keras.applications, module).preprocess_input(x.copy())
    np.testing.assert_allclose(call(ours, x), theirs, atol=2e-3)


@pytest.mark.slow
def test_softmax_and_low_resolution_outputs():
    probabilities = call(build(classifier_activation="softmax"), pixels(33, 33))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert call(build("v3", upsample_logits=False), pixels(65, 65)).shape == (1, 5, 5, 5)
    assert call(build("v3+", upsample_logits=False), pixels(65, 65)).shape == (1, 17, 17, 5)


@pytest.mark.slow
def test_other_numbers_of_channels():
    model = build(backbone=small_classifier(channels=4), input_shape=(None, None, 4))
    assert call(model, pixels(33, 33, channels=4)).shape == (1, 33, 33, 5)
    with pytest.raises(ValueError, match=r"takes 4 channels and input_shape .* has 3"):
        build(backbone=small_classifier(channels=4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "mobilnet"}, "did you mean 'mobilenet_v2'"),
        ({"backbone": 3}, "functional keras.Model; received 3"),
        ({"output_stride": 12}, "output stride 12: its feature maps have strides 1, 2, 4, 8, 16, 32"),
        ({"num_classes": 0}, "positive integer; received 0"),
        ({"input_shape": (None, None)}, "height or None"),
        ({"backbone_weights": "imagenet"}, "goes with a backbone given by name"),
        ({"weights": "pascal_voc"}, "No weights 'pascal_voc' are published for"),
    ],
)
def test_errors_tell_what_was_received_and_what_would_do(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.slow
def test_gradients_reach_every_trainable_variable():
    import tensorflow as tf

    model = build()
    x, labels = pixels(65, 65, batch=2), np.zeros((2, 65, 65), "int32")
    with tf.GradientTape() as tape:
        loss = keras_deeplab.training.losses.SparseCategoricalCrossentropy()(labels, model(x, training=True))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    silent = [
        v.path
        for v, g in zip(model.trainable_variables, gradients, strict=True)
        if g is None or not np.abs(g.numpy()).max() > 0
    ]
    assert silent == []


@pytest.mark.slow
def test_counts_of_the_official_mobilenet():
    """published_numbers: 2,113,557 trainable and 2,146,645 parameters; with plain ASPP 4,523,541."""
    model = keras_deeplab.DeepLabV3("mobilenet_v2")
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert (trainable, model.count_params()) == (2_113_557, 2_146_645)
    with_aspp = keras_deeplab.DeepLabV3("mobilenet_v2", atrous_rates=(6, 12, 18))
    assert sum(int(np.prod(v.shape)) for v in with_aspp.trainable_variables) == 4_523_541
    assert len({v.path for v in model.variables}) == len(model.variables)


def test_a_plan_that_is_there_already_changes_neither_values_nor_dtypes_nor_the_row(monkeypatch):
    from tiny_backbone import tiny

    from keras_deeplab.backbones import BACKBONES, Backbone
    from keras_deeplab.models import common

    monkeypatch.setattr(common, "_PLANS", {})
    monkeypatch.setitem(BACKBONES, "planned", Backbone(tiny, "stage2_relu", "tf", v3_head="image_pooling"))

    def built(channels=3):
        return keras_deeplab.DeepLabV3Plus("planned", num_classes=2, filters=8, input_shape=(None, None, channels))

    networks = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        networks.append(built())
    assert len(common._PLANS) == 1
    for first, second in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(first, second)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = built()
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in half.layers if layer.name.startswith("stage")} == {"float16"}
    for channels in range(4, 9):
        built(channels)
    assert len(common._PLANS) == common._MOST_PLANS

    def other(input_shape=(None, None, 3)):
        network = tiny(input_shape)
        return keras.Model(network.input, keras.layers.ReLU(name="last")(network.output), name="tiny")

    built()
    monkeypatch.setitem(BACKBONES, "planned", Backbone(other, "stage2_relu", "tf", v3_head="image_pooling"))
    assert "last" in {layer.name for layer in built().layers}


@pytest.mark.parametrize(
    ("builder", "name"), [("DeepLabV1", "dropout"), ("DeepLabV2", "dropout"), ("DeepLabV3Plus", "filters")]
)
def test_a_number_that_is_needed_is_not_none(builder, name):
    with pytest.raises(ValueError, match=f"{name} must be a number; received None"):
        getattr(keras_deeplab, builder)(small_classifier(), num_classes=2, **{name: None})
