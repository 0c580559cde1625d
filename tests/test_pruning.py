"""Structured pruning: which channels may go, that the narrow network is the masked one, and what follows from data."""

import keras
import numpy as np
import pytest
from export_models import small_model
from randomise import randomise
from tiny_backbone import tiny, tiny_backbone  # noqa: F401

import keras_deeplab
from keras_deeplab import data, pruning
from keras_deeplab.models.strides import with_output_stride
from keras_deeplab.models.widths import with_widths
from keras_deeplab.pruning.channels import channels
from keras_deeplab.pruning.moments import order, second_moments, stood_in
from keras_deeplab.specs import ModelSpec
from keras_deeplab.specs.model import spec_of
from keras_deeplab.summary import layer_multiply_adds, multiply_adds


def images(count=2, size=(33, 49), seed=0):
    random = np.random.default_rng(seed)
    return [random.uniform(0, 255, (1, *size, 3)).astype("float32") for _ in range(count)]


def masked(model, look, kept, **options):
    """What a model puts out with the kernels of `Pruning.masked`; its own are put back."""
    kernels = look.masked(kept, **options)
    for name, kernel in kernels.items():
        model.get_layer(name).kernel.assign(kernel)
    out = model(images(1, seed=9)[0]).numpy()
    for name in kernels:
        model.get_layer(name).kernel.assign(look.kernels[name])
    return out


def gated(num_classes=3):
    """A gate as squeeze-and-excitation has it, two maps side by side, and a residual connection."""
    x = inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(16, 3, 2, "same", use_bias=False, name="stem")(x)
    skip = x = keras.layers.BatchNormalization(name="stem_BN")(x)
    x = keras.layers.Activation("hard_swish", name="swish")(x)
    x = keras.layers.Conv2D(24, 1, name="expand")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
    gate = keras.layers.Conv2D(8, 1, activation="relu", name="squeeze")(gate)
    gate = keras.layers.Conv2D(24, 1, activation="hard_sigmoid", name="excite")(gate)
    x = keras.layers.Multiply(name="gate")([x, gate])
    x = keras.layers.Conv2D(16, 1, name="project")(x)
    x = keras.layers.Add(name="sum")([skip, x])
    branches = [keras.layers.Conv2D(filters, 1, name=f"branch{filters}")(x) for filters in (4, 12)]
    x = keras.layers.Concatenate(name="side_by_side")(branches)
    x = keras.layers.BatchNormalization(name="both_BN")(x)
    return randomise(keras.Model(inputs, keras.layers.Conv2D(num_classes, 3, padding="same", name="logits")(x)))


def test_which_channels_may_go():
    groups = channels(gated()).groups
    assert list(groups) == ["expand", "squeeze", "branch4", "branch12"]  # not the sum's, not the scores
    expand = groups["expand"]
    assert expand.makers == ["expand", "excite"]
    assert expand.carriers == ["depthwise"]
    assert expand.takers == {"project": 0, "squeeze": 0}
    assert groups["branch12"].takers == {"logits": 4}
    assert groups["branch12"].carriers == ["both_BN"]


@pytest.mark.parametrize("stand_in", [False, True])
def test_the_narrow_network_is_the_masked_one(stand_in):
    model = gated()
    look = pruning.Pruning(model, images())
    kept = look.kept({"expand": 0.5, "squeeze": 0.5, "branch4": 0.5, "branch12": 0.4})
    assert {name: len(left) for name, left in kept.items()} == {"expand": 12, "squeeze": 4, "branch4": 2, "branch12": 7}
    before = model(images(1, seed=9)[0]).numpy()
    narrow = look.narrow(kept, stand_in)
    expected = masked(model, look, kept, stand_in=stand_in)
    np.testing.assert_allclose(narrow(images(1, seed=9)[0]).numpy(), expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_array_equal(model(images(1, seed=9)[0]).numpy(), before)
    assert spec_of(narrow).widths == {"expand": 12, "excite": 12, "squeeze": 4, "branch4": 2, "branch12": 7}


def test_without_stand_ins_what_is_left_keeps_its_kernel():
    model = gated()
    look = pruning.Pruning(model, images())
    kernel = look.masked({"branch12": np.array([0, 5])}, stand_in=False)["logits"]
    own = look.kernels["logits"]
    gone = [4 + channel for channel in range(12) if channel not in (0, 5)]
    assert not kernel[:, :, gone].any()
    np.testing.assert_array_equal(np.delete(kernel, gone, 2), np.delete(own, gone, 2))


def test_channels_that_others_tell_go_first_and_are_stood_in_for():
    """Of four channels the third is the sum of the first two and the last is nearly nothing."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 1, name="a")(inputs)
    model = randomise(keras.Model(inputs, keras.layers.Conv2D(5, 3, padding="same", name="b")(x)))
    kernel, bias = model.get_layer("a").get_weights()
    kernel[..., 2] = kernel[..., 0] + kernel[..., 1]
    kernel[..., 3] *= 1e-6
    model.get_layer("a").set_weights([kernel, bias * 0])
    found = channels(model)
    moments = second_moments(model, found, images(4))
    group, own = found.groups["a"], {"b": model.get_layer("b").kernel.numpy()}
    first = order(group, own, moments)
    assert first[0] == 3
    assert first[1] in (0, 1, 2)
    look = pruning.Pruning(model, images(4))
    kept = {"a": np.sort(first[2:])}
    whole = model(images(1, seed=9)[0]).numpy()
    scale = np.abs(whole).max()
    assert np.abs(masked(model, look, kept) - whole).max() < 0.02 * scale
    assert np.abs(masked(model, look, kept, stand_in=False) - whole).max() > 0.1 * scale
    assert np.array_equal(stood_in(group, "b", own["b"], np.arange(4), moments), own["b"])


@pytest.mark.slow
def test_a_network_of_the_package_is_exact():
    """Gates, depthwise convolutions, residual sums, a pyramid."""
    model = randomise(keras_deeplab.DeepLabV3("mobilenet_v3_small", num_classes=3, filters=64))
    look = pruning.Pruning(model, images())
    kept = look.kept(dict.fromkeys(look.orders, 0.5))
    expected = masked(model, look, kept)
    narrow = look.narrow(kept)
    np.testing.assert_allclose(narrow(images(1, seed=9)[0]).numpy(), expected, atol=1e-5 * np.abs(expected).max())
    size = (65, 81)
    counted = {name: len(left) for name, left in kept.items()}
    share = pruning.Costs(look, size).share(counted)
    assert share == pytest.approx(multiply_adds(narrow, size) / multiply_adds(model, size), rel=1e-9)


@pytest.fixture(scope="module")
def narrow(tiny_backbone):  # noqa: F811
    model = randomise(keras_deeplab.DeepLabV3("tiny", num_classes=3, filters=16, classes=("a", "b", "c")))
    look = pruning.Pruning(model, images())
    return look.narrow(look.kept(dict.fromkeys(look.orders, 0.5)))


@pytest.mark.slow
def test_a_pruned_file_loads_again(narrow, tmp_path):
    image = images(1, seed=9)[0]
    for name in ("pruned.keras", "pruned.weights.h5"):
        (narrow.save if name.endswith(".keras") else narrow.save_weights)(tmp_path / name)
        again = keras_deeplab.load(tmp_path / name)
        assert again.spec == narrow.spec
        assert again.spec.widths["concat_projection"] == 8
        np.testing.assert_array_equal(again(image).numpy(), narrow(image).numpy())
    with pytest.warns(UserWarning, match="starts from fresh values"):
        other = keras_deeplab.load(tmp_path / "pruned.keras", num_classes=7, classes=tuple("abcdefg"))
    assert other.output_shape[-1] == 7
    assert other.count_params() < 2 * narrow.count_params()


def test_a_pruned_record_builds_the_same_network(narrow):
    again = keras_deeplab.build(ModelSpec.from_json(narrow.spec.to_json()))
    assert [tuple(v.shape) for v in again.weights] == [tuple(v.shape) for v in narrow.weights]
    dense = with_output_stride(narrow, 8)
    assert dense.spec.widths == narrow.spec.widths
    assert dense.spec.output_stride == 8
    assert "widths" not in keras_deeplab.DeepLabV3("tiny").spec.to_dict()


def test_refusals(narrow):
    look = pruning.Pruning(gated(), images())
    with pytest.raises(ValueError, match="'logits' is no group of channels that may go; those are expand, "):
        look.kept({"logits": 0.5})
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        look.kept({"expand": 1.0})
    with pytest.raises(ValueError, match="no photograph"):
        pruning.Pruning(gated(), [])
    with pytest.raises(ValueError, match=r"has no convolution 'nothing'"):
        with_widths(narrow, {"nothing": 3})
    with pytest.raises(ValueError, match="widths must be a dict from names of layers to positive integers"):
        ModelSpec(3, widths={"logits": 0})
    inputs = keras.Input((None, None, 3))
    nested = keras.Model(inputs, keras.layers.Conv2D(2, 1)(gated()(inputs)))
    with pytest.raises(ValueError, match="is a model itself"):
        channels(nested)
    alone = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    with pytest.raises(ValueError, match=r"no channels of .* may go"):
        pruning.Pruning(alone, images())


def test_layer_costs_add_up():
    model = small_model()
    layers = layer_multiply_adds(model, (33, 49))
    assert sum(layers.values()) == multiply_adds(model, (33, 49))
    assert len(layers) == len(model.layers) - 1


@pytest.mark.slow
def test_sensitivity_on_labels_and_what_follows():
    source = data.load("synthetic", split="train", num_examples=3, size=(40, 56))
    model = gated(source.num_classes)
    own = [value.copy() for value in model.get_weights()]
    look = pruning.Pruning(model, images())
    whole, rows = pruning.sensitivities(look, source, (0.25, 0.75), limit=2, progress=False)
    assert all(np.array_equal(a, b) for a, b in zip(own, model.get_weights(), strict=True))
    by = {(row.group, row.kept): row for row in rows}
    assert by.keys() >= {("expand", 16), ("expand", 4), ("branch12", 9), ("branch12", 3)}
    row = by["expand", 4]
    narrow = look.narrow(look.kept({"expand": 0.75}))
    samples = list(source.dataset(shuffle_seed=0).take(2).as_numpy_iterator())
    pairs = [[keras_deeplab.predictor(one)(s["image"]) for one in (model, narrow)] for s in samples]
    assert row.changed == pytest.approx(np.mean([np.mean(a != b) for a, b in pairs]))
    costs = pruning.Costs(look, (40, 56))
    shares = pruning.shares_for(look, rows, 0.8, costs)
    left = {name: len(channels) for name, channels in look.kept(shares).items()}
    assert 0.5 < costs.share(left) <= 0.8
    with pytest.raises(ValueError, match="was asked for"):
        pruning.shares_for(look, rows, 0.1, costs)
    assert f"mean IoU {whole:.4f}" in pruning.table(rows, whole)
    assert "branch12" in pruning.table(rows, whole)


def test_many_small_cuts_are_better_than_one_large():
    """What a group of two costs alone is the same here; each cut of both saves as much."""
    inputs = keras.Input((None, None, 3))
    halves = [keras.layers.Conv2D(16, 1, name=name)(inputs) for name in ("left", "right")]
    x = keras.layers.Concatenate()(halves)
    model = randomise(keras.Model(inputs, keras.layers.Conv2D(2, 1)(x)))
    look = pruning.Pruning(model, images())
    rows = [
        pruning.Sensitivity(name, share, round(16 * (1 - share)), 16, 0.5, changed)
        for name in ("left", "right")
        for share, changed in ((0.25, 0.01), (0.5, 0.02))
    ]
    costs = pruning.Costs(look, (8, 8))
    assert pruning.shares_for(look, rows, 0.75, costs) == {"left": 0.25, "right": 0.25}
