"""Checkpoints of every source: computed as by the source's own code, read strictly, written back bit for bit."""

import json
import sys
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from conftest import SHARED
from randomise import randomise

import keras_deeplab
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2, mobilenet_v2_jfzhang95, mobilenet_v2_vainf
from keras_deeplab.export import weights as export
from keras_deeplab.models.build import build
from keras_deeplab.networks import network
from keras_deeplab.specs import Classes, ModelSpec
from keras_deeplab.weights import SOURCES, applications, jfzhang95, kazuto1011, recognise, tf1
from keras_deeplab.weights.names import KERAS, TORCH, rename, rows, their_name
from keras_deeplab.weights.plan import FIRST_LAYERS, Plan, all_layers

pytestmark = pytest.mark.slow

TOLERANCE = 2e-5
# Google's own (slim) are compared in test_weights_tf1.py.
REFERENCES = sorted(
    path.stem for path in (SHARED / "reference").glob("*.npz") if not path.stem.startswith(("densecrf", "slim"))
)


@pytest.fixture(scope="module")
def synth(shared):
    """The module that reads the reference outputs."""
    sys.path.insert(0, str(shared / "reference"))
    import synth

    yield synth
    sys.path.remove(str(shared / "reference"))


@pytest.fixture(autouse=True)
def free_memory():
    yield
    keras.backend.clear_session()


def outputs(model, fixture, size):
    """The model's outputs in the fixture's order of axes."""
    channels_first = fixture.meta["data_format"] == "NCHW"
    x = fixture.input(size)
    y = model(x.transpose(0, 2, 3, 1) if channels_first else x)
    y = [keras.ops.convert_to_numpy(each) for each in (y if isinstance(y, (list, tuple)) else [y])]
    return [each.transpose(0, 3, 1, 2) for each in y] if channels_first else y


@pytest.mark.parametrize(
    "name",
    REFERENCES or [pytest.param("none", marks=pytest.mark.skip(reason=f"needs the reference outputs in {SHARED}"))],
)
def test_the_source_s_code_computes_the_same(synth, shared, name):
    fixture = synth.Fixture(shared / "reference" / f"{name}.npz")
    height, width = map(int, fixture.sizes[0].split("x"))
    state = fixture.state_dict()
    # Its arrays fit two networks.
    told = {"backbone": "mobilenet_v3_large_timm"} if "timm_mobilenetv3" in name else {}
    if name.startswith("smp"):  # a warning tells of what nothing tells
        told["atrous_rates"] = (12, 24, 36)
    model = keras_deeplab.load(
        state,
        **told,
        output_stride=fixture.meta["output_stride"],
        include_preprocessing=False,
        upsample_logits=list(fixture.output(fixture.sizes[0])["shape"][1:]) == [height, width],
    )
    auxiliary = sum(array.size for key, array in state.items() if key.startswith("aux_") and "running" not in key)
    auxiliary -= sum(key.startswith("aux_") and "num_batches" in key for key in state)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_weights) == fixture.meta["params"] - auxiliary
    for size in fixture.sizes:
        assert synth.compare(fixture, size, outputs(model, fixture, size)[0]) < TOLERANCE, size


def test_torchvision_s_auxiliary_head_is_read_where_it_is_asked_for(synth, shared):
    fixture = synth.Fixture(shared / "reference/torchvision__deeplabv3_mobilenet_v3_large__os16.npz")
    state = fixture.state_dict()
    model = keras_deeplab.load(state, include_preprocessing=False, auxiliary_head=True)
    for y, point in zip(outputs(model, fixture, "129x161"), ("logits", "aux"), strict=True):
        assert synth.compare(fixture, "129x161", y, point) < TOLERANCE
    assert_equal(export.state_dict(model, "torchvision"), state)


@pytest.mark.parametrize(
    "name",
    [
        "vainf__deeplabv3plus_mobilenet__os16",
        "vainf__deeplabv3plus_resnet50_separable__os16",
        "slim__deeplabv3_mobilenet_v2_official__os16",
    ],
)
def test_what_was_read_is_written_back_bit_for_bit(synth, shared, name):
    state = synth.Fixture(shared / "reference" / f"{name}.npz").state_dict()
    source = {"slim": "tf1"}.get(name.split("__")[0], "vainf")
    assert_equal(export.state_dict(keras_deeplab.load(state), source), state)


def assert_equal(arrays, expected):
    assert set(arrays) == set(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype, name
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


# Small networks -----------------------------------------------------------------------------------------------------


def small(builder=keras_deeplab.DeepLabV3Plus, classifier=mobilenet_v2_vainf, flavour="vainf", **settings):
    settings = {"num_classes": 5, "filters": 8, "flavour": flavour, **settings}
    return randomise(builder(classifier(alpha=0.25), include_preprocessing=False, **settings))


@pytest.fixture(scope="module")
def model():
    """A small DeepLab v3+ as VainF has it."""
    return small(low_level_filters=6)


@pytest.fixture(scope="module")
def exported(model):
    return export.state_dict(model, "vainf")


@pytest.fixture
def state(exported):
    """What VainF's code would save of it."""
    return {name: array.copy() for name, array in exported.items()}


def named(model, plan, **constants):
    """A model's weights under the names of a source."""
    layers = {layer.name: layer for layer in all_layers(model)}
    return {
        their_name(v.path, plan.rows, plan.dialect, **constants): plan.arrange(v.numpy(), v, layers, back=True)
        for v in model.weights
    }


X = np.random.default_rng(0).standard_normal((1, 65, 81, 3)).astype("float32")


def test_names_and_shapes_tell_the_network(model, state):
    assert state["backbone.low_level_features.0.0.weight"].shape == (8, 3, 3, 3)
    assert state["backbone.high_level_features.4.conv.1.0.weight"].shape[1:] == (1, 3, 3)
    assert state["classifier.aspp.convs.4.2.num_batches_tracked"].dtype == "int64"
    loaded = keras_deeplab.load(state, include_preprocessing=False)
    assert [(v.path, v.shape) for v in loaded.weights] == [(v.path, v.shape) for v in model.weights]
    np.testing.assert_array_equal(loaded(X), model(X))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model.", "net._orig_mod.", "a.b.c.d."])
def test_what_training_scripts_put_around_is_taken_off(prefix, model, state):
    wrapped = {"cur_itrs": 7, "model_state": {f"{prefix}{name}": array for name, array in state.items()}}
    np.testing.assert_array_equal(keras_deeplab.load(wrapped, include_preprocessing=False)(X), model(X))


def test_a_prefix_that_not_all_names_have_is_not_taken_off(state):
    mixed = {f"model.{name}": array for name, array in state.items()} | {"teacher.weight": np.ones(3)}
    with pytest.raises(ValueError, match=r"begin with 'model\.', and arrays of teacher, of which nothing is known"):
        keras_deeplab.load(mixed)
    with pytest.raises(ValueError, match=r"holds no DeepLab .* in a\."):
        keras_deeplab.load({f"a.b.c.d.e.{name}": array for name, array in state.items()})


def test_maps_are_concatenated_in_another_order(state):
    """torch puts the image-level feature behind the branches, VainF the finer map before the coarse one."""
    loaded = keras_deeplab.load(state)
    kernel = loaded.get_layer("concat_projection").kernel.numpy()[0, 0]
    stored = state["classifier.aspp.project.0.weight"][:, :, 0, 0]
    np.testing.assert_array_equal(kernel[:8].T, stored[:, 32:])
    np.testing.assert_array_equal(kernel[8:].T, stored[:, :32])
    kernel = loaded.get_layer("decoder_conv0").kernel.numpy()
    stored = state["classifier.classifier.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel[:, :, :8], stored[:, :, 6:])
    np.testing.assert_array_equal(kernel[:, :, 8:], stored[:, :, :6])


@pytest.mark.parametrize("builder", [keras_deeplab.DeepLabV3, keras_deeplab.DeepLabV3Plus])
def test_a_converted_separable_head_round_trips(builder):
    model = small(builder, flavour="vainf_separable", separable=True)
    state = export.state_dict(model, "vainf")
    assert any(".body.0.weight" in name for name in state)
    np.testing.assert_array_equal(keras_deeplab.load(state, include_preprocessing=False)(X), model(X))


def test_arrays_that_do_not_fit_are_all_listed_by_both_names(state):
    del state["classifier.project.0.weight"], state["backbone.low_level_features.2.conv.3.running_var"]
    state["backbone.fc.weight"] = np.zeros((2, 2))
    state["classifier.aspp.convs.1.0.weight"] = np.zeros((8, 3, 3, 3), "float32")
    state["classifier.classifier.1.bias"][2] = np.nan
    with pytest.raises(ValueError, match="the given mapping don't fit") as caught:
        keras_deeplab.load(state)
    message = str(caught.value)
    for line in [
        "Missing from the file (2):",
        "block_1_project_BN/moving_variance (6,), there 'backbone.low_level_features.2.conv.3.running_var'",
        "feature_projection0/kernel (1, 1, 6, 48), there 'classifier.project.0.weight'",
        "Left over in the file (1):\n  backbone.fc.weight (2, 2)",
        "aspp1/kernel: (3, 3, 3, 8), the model has (3, 3, 80, 8), there 'classifier.aspp.convs.1.0.weight'",
        "Holding values that are not finite (1):\n  decoder_conv0_BN/beta, there 'classifier.classifier.1.bias'",
    ]:
        assert line in message


def test_another_number_of_classes_keeps_all_but_the_last_layer(model, state):
    with pytest.warns(UserWarning, match=r"has 5 classes and 7 were asked for: the last layer \('logits'\)"):
        loaded = keras_deeplab.load(state, num_classes=7)
    for a, b in zip(loaded.weights, model.weights, strict=True):
        if not a.path.startswith("logits/"):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert loaded.output_shape[-1] == 7


def test_another_number_of_classes_keeps_all_but_the_last_layer_of_every_branch():
    model = randomise(keras_deeplab.DeepLabV2("vgg11_caffe", filters=4, num_classes=3))
    plan = Plan("caffe", None, rows(SOURCES["caffe"]._VGG) + rows(SOURCES["caffe"]._V2), TORCH)
    state = named(model, plan, data="_voc12")
    assert "fc8_voc12_4.bias" in state
    np.testing.assert_array_equal(keras_deeplab.load(state, include_preprocessing=True)(X), model(X))
    with pytest.warns(UserWarning, match=r"\('logits_1', 'logits_2', 'logits_3', 'logits_4'\) starts"):
        assert keras_deeplab.load(state, num_classes=2).output_shape[-1] == 2


def test_a_file_without_a_classifier_needs_a_number_of_classes(state):
    for leaf in ("weight", "bias"):
        del state[f"classifier.classifier.3.{leaf}"]
    with pytest.raises(ValueError, match=r"has no classifier\. Give num_classes="):
        keras_deeplab.load(state)
    with pytest.warns(UserWarning, match="has no classifier and 4 were asked for"):
        assert keras_deeplab.load(state, num_classes=4).output_shape[-1] == 4


def test_tensors_of_two_names_must_be_equal():
    model = small(classifier=mobilenet_v2_jfzhang95, flavour="jfzhang95")
    plan = Plan("", None, rows(jfzhang95.MOBILENET_V2, "backbone.") + rows(jfzhang95._HEAD), TORCH)
    blocks = {"concat_projection": ((8,) * 5, (4, 0, 1, 2, 3))}
    state = named(model, Plan("", None, plan.rows, TORCH, blocks=blocks), half="features")
    for name, array in list(state.items()):
        half = "low" if any(f"features.{block}." in name for block in range(4)) else "high"
        state[name.replace("backbone.features", f"backbone.{half}_level_features")] = array
    assert len([name for name in state if "features.5.conv.0.weight" in name]) == 2
    np.testing.assert_array_equal(keras_deeplab.load(state, include_preprocessing=False)(X), model(X))
    state["backbone.high_level_features.5.conv.0.weight"] = state["backbone.features.5.conv.0.weight"] + 1
    with pytest.raises(ValueError, match=r"'backbone\.features\.5\.conv\.0\.weight' and .* two names of one tensor"):
        keras_deeplab.load(state)


# Records ------------------------------------------------------------------------------------------------------------


def test_a_loaded_model_s_record_builds_it_again(model, state):
    """At the width that the checkpoint has, which isn't the registered backbone's."""
    spec = keras_deeplab.load(state, output_stride=8).spec
    assert (spec.builder, spec.backbone, spec.backbone_settings) == (
        "DeepLabV3Plus",
        "mobilenet_v2_vainf",
        {"alpha": 0.25},
    )
    assert (spec.flavour, spec.resize, spec.preprocessing) == ("vainf", "half_pixel_centers", "torch")
    assert (spec.output_stride, spec.num_classes, spec.classes) == (8, 5, Classes())
    again = keras_deeplab.build(ModelSpec.from_json(spec.to_json()))
    assert [(v.path, v.shape) for v in again.weights] == [(v.path, v.shape) for v in model.weights]
    assert again.spec == spec


def test_what_a_record_does_not_tell_is_not_built(state):
    with pytest.raises(ValueError, match="doesn't tell how its network is built"):
        keras_deeplab.build(ModelSpec(3))
    plan = recognise({name: array for name, array in state.items() if "classifier.classifier.3." not in name})
    with pytest.raises(ValueError, match="without a classifier: give num_classes="):
        keras_deeplab.build(plan.spec)


def test_classes_are_named_by_who_loads_them(model, state):
    names = ["sky", "road", "tree", "car", "sign"]
    loaded = keras_deeplab.load(state, classes=names, include_preprocessing=False)
    assert loaded.spec.labels == tuple(names)
    np.testing.assert_array_equal(loaded(X), model(X))
    with pytest.warns(UserWarning, match=r"has 5 classes and 3 were asked for: the last layer \('logits'\)") as told:
        loaded = keras_deeplab.load(state, classes=Classes(names[:3], ((1, 2, 3),) * 3, 7))
    assert told[0].filename == __file__
    assert (loaded.spec.labels, loaded.spec.classes.ignore_label) == (("sky", "road", "tree"), 7)
    with pytest.raises(ValueError, match=r"received 3 class names .* has 5 classes"):
        keras_deeplab.load(state, classes=names[:3], num_classes=5)


def test_a_source_is_added_from_outside(model, monkeypatch):
    settings = {"num_classes": 5, "flavour": "vainf", "filters": 8, "low_level_filters": 6}
    spec = network("DeepLabV3Plus", "mobilenet_v2_vainf", backbone_settings={"alpha": 0.25}, **settings)
    plan = Plan("mine", spec, (("mine/{layer:.*}", "{layer}"),), KERAS)
    mine = SimpleNamespace(TITLE="me", recognise=lambda shapes, *_: plan if "mine/Conv1/kernel" in shapes else None)
    monkeypatch.setitem(SOURCES, "mine", mine)
    arrays = {f"mine/{variable.path}": variable.numpy() for variable in model.weights}
    for source in ("auto", "mine"):
        loaded = keras_deeplab.load(arrays, source, include_preprocessing=False)
        np.testing.assert_array_equal(loaded(X), model(X))


# Names of families --------------------------------------------------------------------------------------------------


def resnet_shapes(depth, width=64):
    """Names and shapes of the arrays of a torch ResNet."""
    bottleneck = depth >= 50
    units = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    shapes = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,)}
    for stage, count in enumerate(units, start=1):
        inner = width * 2 ** (stage - 1)
        for unit in range(count):
            kernels = {1: 1, 2: 3, 3: 1} if bottleneck else {1: 3, 2: 3}
            for n, kernel in kernels.items():
                shapes[f"layer{stage}.{unit}.conv{n}.weight"] = (inner, inner, kernel, kernel)
                shapes[f"layer{stage}.{unit}.bn{n}.weight"] = (inner,)
    return shapes


PYRAMID = {"convs.0.0.weight": (64, 512, 1, 1), "project.0.weight": (64, 320, 1, 1)}
HEADS = [
    # source, scope of the backbone, of the pyramid, the classifier, output stride, rates
    ("vainf", "backbone.", "classifier.classifier.0.", "classifier.classifier.4.weight", 16, None),
    ("torchvision", "backbone.", "classifier.0.", "classifier.4.weight", 8, (12, 24, 36)),
    ("smp", "encoder.", "decoder.aspp.", "segmentation_head.0.weight", 8, None),
    ("smp", "encoder.", "decoder.0.", "segmentation_head.0.weight", 8, None),
]


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
@pytest.mark.parametrize(("source", "scope", "pyramid", "classifier", "output_stride", "rates"), HEADS)
def test_every_resnet_is_recognised(depth, source, scope, pyramid, classifier, output_stride, rates):
    shapes = {f"{scope}{name}": shape for name, shape in resnet_shapes(depth).items()}
    shapes |= {f"{pyramid}{name}": shape for name, shape in PYRAMID.items()} | {classifier: (13, 64, 1, 1)}
    plan = SOURCES[source].recognise(shapes, "it", {})
    assert (plan.source, plan.spec.backbone, plan.spec.num_classes) == (source, f"resnet{depth}", 13)
    settings = plan.spec.settings
    assert (plan.spec.output_stride, settings.get("atrous_rates"), settings["filters"]) == (output_stride, rates, 64)
    others = [name for name, module in SOURCES.items() if name != source and module.recognise(shapes, "it", {})]
    assert not others


def test_resnets_that_are_not_built_are_refused():
    shapes = {f"backbone.{name}": shape for name, shape in resnet_shapes(50, width=128).items()}
    shapes |= {f"classifier.0.{name}": shape for name, shape in PYRAMID.items()}
    with pytest.raises(ValueError, match=r"it holds a wide or grouped ResNet .* the shape \(128, 128, 3, 3\)"):
        SOURCES["torchvision"].recognise(shapes, "it", {})
    shapes["backbone.layer3.6.conv1.weight"] = (256, 256, 1, 1)
    with pytest.raises(
        ValueError, match=r"it holds a ResNet of \[3, 4, 7, 3\] units with bottlenecks.* 101 \[3, 4, 23"
    ):
        SOURCES["torchvision"].recognise(shapes, "it", {})


def test_the_reach_of_rates_stays_where_the_output_stride_changes():
    shapes = {f"backbone.{name}": shape for name, shape in resnet_shapes(18).items()}
    shapes |= {f"classifier.0.{name}": shape for name, shape in PYRAMID.items()}
    plan = SOURCES["torchvision"].recognise(shapes, "it", {})
    for stride, rates in [(8, (12, 24, 36)), (16, (6, 12, 18))]:
        model = build(plan.at(stride), num_classes=2)
        assert [model.get_layer(f"aspp{n}").dilation_rate[0] for n in (1, 2, 3)] == list(rates)


def test_the_fields_of_names_are_translated_in_both_directions():
    table = [("a.{n:2-4}.b", "x{n-1}"), (r"c.{word:\w+}.{n+2}", "{word}_{n}"), ("{scope:p|q}.d", "d")]
    for theirs, ours in [("a.2.b", "x1"), ("a.4.b", "x3"), ("c.foo.7", "foo_5"), ("p.d", "d")]:
        assert rename(theirs, table) == ours
        assert rename(ours, table, back=True, scope="p") == theirs
    for name in ("a.5.b", "a.1.b", "a.22.b", "z.d", "a.2.bb"):
        assert rename(name, table) is None
    assert rename("x4", table, back=True) is None


def test_mappings_of_no_source_are_refused(state):
    with pytest.raises(ValueError, match=r"its arrays are in nothing\. What can: .*Google.*VainF.*bonlime"):
        keras_deeplab.load({})
    with pytest.raises(ValueError, match=r"its arrays are in foo, other\. What can"):
        keras_deeplab.load({"foo.weight": np.zeros(3), "other.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"its arrays are in backbone, classifier\. What can: .* torchvision"):
        keras_deeplab.load(state, source="torchvision")
    with pytest.raises(ValueError, match=r"'a\.weight' must be an array of numbers; received str"):
        keras_deeplab.load({"a.weight": "text"})
    with pytest.raises(
        ValueError, match=r"'a\.weight' must be an array of numbers; received ndarray .* shape \(0, 3\)"
    ):
        keras_deeplab.load({"a.weight": np.zeros((0, 3))})
    state["classifier.aspp.convs.0.0.weight"] = np.zeros(())
    with pytest.raises(ValueError, match=r"given mapping looks like a checkpoint of VainF's .* \(IndexError"):
        keras_deeplab.load(state)


@pytest.mark.parametrize("scope", ["", "base."])
def test_a_model_of_several_scales_is_told_by_its_names(scope):
    shapes = {}
    for name, shape in resnet_shapes(50).items():
        for pattern, replacement in [("conv1", "reduce.conv"), ("conv2", "conv3x3.conv"), ("conv3", "increase.conv")]:
            if name.startswith("layer") and pattern in name:
                stage, unit = int(name[5]), int(name.split(".")[1])
                shapes[f"{scope}layer{stage + 1}.block{unit + 1}.{replacement}.weight"] = shape
    shapes[f"{scope}layer1.conv1.conv.weight"] = (64, 3, 7, 7)
    plan = kazuto1011.recognise({**shapes, f"{scope}aspp.c0.weight": (182, 2048, 3, 3)}, "it", {})
    assert (plan.spec.builder, plan.spec.backbone, plan.spec.num_classes) == ("DeepLabV2", "resnet50_caffe", 182)
    assert plan.spec.settings == {"align_corners": False, "multi_scale": bool(scope)}
    plan = kazuto1011.recognise({**shapes, f"{scope}fc.weight": (91, 2048, 1, 1)}, "it", {})
    assert (plan.spec.builder, plan.spec.num_classes) == ("DeepLabV1", 91)
    with pytest.raises(ValueError, match=r"no head: of .*fc\.weight, .* it has none"):
        kazuto1011.recognise(shapes, "it", {})


def test_a_network_beyond_what_the_file_holds_is_not_built(state):
    """Its kernels would take 30 GB; the array that asks for it takes 4 MB."""
    state["classifier.aspp.convs.0.0.weight"] = np.zeros((1_000_000, 1, 1, 1), "float32")
    with pytest.raises(ValueError, match=r"the given mapping asks for 1,000,000 filters beside 1,000,000, and holds"):
        keras_deeplab.load(state)
    state["classifier.aspp.convs.0.0.weight"] = np.zeros((8, 80, 1, 1), "float32")
    state["backbone.high_level_features.17.conv.2.weight"] = np.zeros((100_000, 1, 1, 1), "float32")
    with pytest.raises(ValueError, match=r"the given mapping: the convolution 'block_16_project' has 312\.5 times"):
        keras_deeplab.load(state)


# Other input channels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "channels", "expected"),
    [
        ("mean", 2, lambda k: [k.mean(axis=2)] * 2),
        ("sum", 1, lambda k: [k.sum(axis=2)]),
        ("sum", 6, lambda k: [k.sum(axis=2) / 6] * 6),
        ("repeat", 4, lambda k: [k[:, :, c] * 0.75 for c in (0, 1, 2, 0)]),
        ("zero", 5, lambda k: [k[:, :, 0], k[:, :, 1], k[:, :, 2], 0 * k[:, :, 0], 0 * k[:, :, 0]]),
        (None, 1, lambda k: [k.sum(axis=2)]),
        (None, 4, lambda k: [k[:, :, 0], k[:, :, 1], k[:, :, 2], 0 * k[:, :, 0]]),
    ],
)
def test_other_input_channels_adapt_the_stem(model, state, stem, channels, expected):
    kernel = state["backbone.low_level_features.0.0.weight"].transpose(2, 3, 1, 0)
    settings = {"input_shape": (None, None, channels), "stem": stem, "include_preprocessing": False}
    with pytest.warns(UserWarning, match=f"has 3 input channels and {channels} were asked for"):
        loaded = keras_deeplab.load(state, **settings)
    np.testing.assert_allclose(loaded.get_layer("Conv1").kernel, np.stack(expected(kernel), axis=2), rtol=1e-6)
    for a, b in list(zip(loaded.weights, model.weights, strict=True))[1:]:
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_grey_image_has_the_features_of_its_three_channels(model, state):
    with pytest.warns(UserWarning, match="stem='sum'"):
        grey = keras_deeplab.load(state, input_shape=(None, None, 1), include_preprocessing=False)
    x = X[..., :1]
    np.testing.assert_allclose(grey(x), model(np.repeat(x, 3, axis=-1)), atol=1e-4)


def test_channels_that_can_not_be_are_refused(state):
    with pytest.raises(ValueError, match="stem must be None or one of 'mean', 'sum', 'repeat', 'zero'; received 'max'"):
        keras_deeplab.load(state, stem="max")
    with (
        pytest.warns(UserWarning, match="stem='zero'"),
        pytest.raises(ValueError, match="1 are fewer than the checkpoint's 3"),
    ):
        keras_deeplab.load(state, stem="zero", input_shape=(None, None, 1), include_preprocessing=False)
    with pytest.raises(ValueError, match=r"normalisation is torch, .* and here they have 1 "):
        keras_deeplab.load(state, input_shape=(None, None, 1))


@pytest.mark.filterwarnings("error")
def test_a_checkpoint_s_own_channels_are_kept():
    backbone = mobilenet_v2_vainf((None, None, 4), alpha=0.25)
    settings = {"input_shape": (None, None, 4), "include_preprocessing": False, "flavour": "vainf"}
    model = randomise(keras_deeplab.DeepLabV3Plus(backbone, num_classes=3, filters=8, **settings))
    state = export.state_dict(model, "vainf")
    assert recognise(state).spec.channels == 4
    loaded = keras_deeplab.load(state, include_preprocessing=False)
    assert (loaded.spec.channels, loaded.input_shape) == (4, (None, None, None, 4))
    x = np.random.default_rng(0).standard_normal((1, 33, 49, 4)).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))
    with pytest.raises(ValueError, match=r"normalisation is torch, .* and here they have 4 "):
        keras_deeplab.load(state)
    with pytest.raises(UserWarning, match="has 4 input channels and 3 were asked for"):
        keras_deeplab.load(state, input_shape=(None, None, 3), include_preprocessing=False)


@pytest.mark.parametrize(
    "name",
    [
        *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_small_seg", "mobilenet_v3_small_timm", "drn_d_22"),
        *("resnet18", "resnet_v1_50_beta", "vgg11", "xception_41", "xception_jfzhang95"),
        *("se_resnet50", "mobileone_s1", "convnext_atto", "efficientnet_b0"),
    ],
)
def test_the_first_layer_of_a_backbone_is_known(name):
    with unallocated():
        paths = [variable.path for variable in BACKBONES[name].build((None, None, 3)).weights]
    first = next(path for path in paths if path.endswith("/kernel"))
    assert [layer for layer in FIRST_LAYERS if f"{layer}/kernel" in paths] == [first.removesuffix("/kernel")]


# Writing ------------------------------------------------------------------------------------------------------------


def test_a_network_is_not_written_as_another(model):
    with pytest.raises(ValueError, match=r"source must be one of 'tf1', 'vainf', .*; received 'caffe'"):
        export.state_dict(model, "caffe")
    with pytest.raises(
        ValueError, match=r"is no network of torchvision's DeepLabV3 and LRASPP, which has no Conv1/kernel"
    ):
        export.state_dict(model, "torchvision")
    google = keras_deeplab.DeepLabV3Plus(mobilenet_v2(alpha=0.25), filters=8, separable=False)
    with pytest.raises(ValueError, match=r"is no network of VainF.*, which has no decoder_conv1/kernel"):
        export.state_dict(google, "vainf")
    # The same variables, other paddings and another epsilon.
    mixed = keras_deeplab.DeepLabV3Plus(mobilenet_v2(alpha=0.25), filters=8, flavour="vainf")
    with pytest.raises(ValueError, match=r"is another network\. Without their match are there .*block_10_pad"):
        export.state_dict(mixed, "vainf")
    with pytest.raises(ValueError, match=r"record tells: backbone 'mobilenet_v2', VainF's .* has 'mobilenet_v2_vainf'"):
        export.state_dict(mixed, "vainf")
    resized = small(classifier=mobilenet_v2_jfzhang95, flavour="kazuto1011")
    with pytest.raises(ValueError, match=r"record tells: flavour 'kazuto1011', jfzhang95's .* has 'jfzhang95'\."):
        export.state_dict(resized, "jfzhang95")
    # The same names and shapes, other shortcuts.
    other = keras_deeplab.DeepLabV3Plus("resnet50_v1d", num_classes=3, filters=8, flavour="smp")
    with pytest.raises(
        ValueError, match=r"another network, which would compute .*downsample_pool.* backbone 'resnet50"
    ):
        export.state_dict(other, "smp")


def test_google_s_names_are_written():
    model = randomise(keras_deeplab.DeepLabV3Plus("mobilenet_v2_dm05", num_classes=4, filters=8))
    state = export.state_dict(model, "tf1")
    assert state["MobilenetV2/expanded_conv_3/depthwise/depthwise_weights"].shape == (3, 3, 72, 1)
    assert state["decoder/decoder_conv0_pointwise/BatchNorm/moving_variance"].shape == (8,)
    assert state["logits/semantic/biases"].shape == (4,)
    x = np.random.default_rng(0).integers(0, 256, (1, 65, 65, 3)).astype("uint8")
    np.testing.assert_array_equal(keras_deeplab.load(state)(x), model(x))


# Classifiers as backbone weights ------------------------------------------------------------------------------------


def write_safetensors(path, arrays):
    header, offset = {}, 0
    for name, array in arrays.items():
        dtype = {"float32": "F32", "int64": "I64"}[str(array.dtype)]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in arrays.values()))
    return path


def as_torch(classifier, prefix="", **constants):
    """A backbone's weights as torchvision's classifier of the same name would hold them, and its top."""
    table, dialect, _, _ = next(way for way in applications.WAYS[classifier.name] if way[1] is TORCH)
    arrays = named(classifier, Plan("", None, tuple(table), dialect), **constants)
    arrays["num_batches_tracked"] = np.zeros((), "int64")
    return {f"{prefix}{name}": np.ascontiguousarray(array) for name, array in arrays.items()}


def test_torchvision_s_resnet_is_read_from_a_file(tmp_path):
    classifier = randomise(BACKBONES["resnet18"].build((None, None, 3)))
    arrays = as_torch(classifier)
    assert arrays["layer2.0.downsample.1.running_var"].shape == (128,)
    del arrays["num_batches_tracked"]
    arrays["bn1.num_batches_tracked"] = np.zeros((), "int64")
    arrays |= {"fc.weight": np.zeros((10, 512), "float32"), "fc.bias": np.zeros(10, "float32")}
    path = write_safetensors(tmp_path / "resnet18.safetensors", arrays)
    model = keras_deeplab.DeepLabV3("resnet18", filters=4, backbone_weights=path)
    for variable in classifier.weights:
        layer, index = model.get_layer(variable.path.split("/")[0]), variable.path.split("/")[1]
        np.testing.assert_array_equal(next(v for v in layer.weights if v.path.endswith(index)), variable)
    arrays.pop("layer4.1.conv2.weight")
    write_safetensors(path, arrays)
    with pytest.raises(ValueError, match=r"layer4_1_conv2/kernel \(3, 3, 512, 512\), there 'layer4\.1\.conv2\.weight'"):
        keras_deeplab.DeepLabV3("resnet18", filters=4, backbone_weights=path)
    with pytest.raises(
        ValueError, match=r"don't fit 'vgg11': it should have an array 'features\.0\.weight' or 'conv1_1"
    ):
        keras_deeplab.DeepLabV1("vgg11", filters=4, backbone_weights=path)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v2_jfzhang95", "drn_d_22", "vgg11_bn"])
def test_torch_s_classifiers_fit_their_backbones(name, tmp_path):
    classifier = randomise(BACKBONES[name].build((None, None, 3)))
    arrays = as_torch(classifier, half="features")
    del arrays["num_batches_tracked"]
    arrays["classifier.1.weight"] = np.zeros((10, 4), "float32")
    before = classifier.get_weights()
    for variable in classifier.weights:
        variable.assign(variable * 0)
    (tmp_path / "file").touch()
    applications.load_backbone(classifier, tmp_path / "file", name, lambda path: arrays, None)
    for a, b in zip(classifier.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_google_s_classifier_fits_its_backbone(tmp_path):
    classifier = randomise(mobilenet_v2(alpha=0.5))
    arrays = named(classifier, Plan("", None, tf1.ROWS, tf1.DIALECT))
    arrays["MobilenetV2/Logits/Conv2d_1c_1x1/weights"] = arrays["MobilenetV2/Conv_1/weights"] = np.zeros((1, 1, 3, 3))
    arrays["MobilenetV2/Conv/weights/ExponentialMovingAverage"] = np.zeros(3)
    (tmp_path / "file").touch()
    other = applications.load_backbone(
        mobilenet_v2(alpha=0.5), tmp_path / "file", "mobilenet_v2", lambda path: arrays, None
    )
    for a, b in zip(classifier.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """VGG16 of keras.applications, and its file in today's form and in that of Keras 1, which is the published one."""
    network = randomise(keras.applications.VGG16(include_top=False, weights=None, input_shape=(None, None, 3)))
    folder = tmp_path_factory.mktemp("vgg16")
    network.save_weights(folder / "vgg16_no_top.weights.h5")
    with h5py.File(folder / "vgg16_no_top.h5", "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            group, names = file.create_group(layer.name), []
            for variable, leaf in zip(layer.weights, "Wb", strict=False):
                names.append(f"{layer.name}_{leaf}_1:0")
                group[names[-1]] = variable.numpy()
            group.attrs["weight_names"] = [name.encode() for name in names]
    return network, folder


@pytest.mark.parametrize("name", ["vgg16", "vgg16_caffe"])
@pytest.mark.parametrize("file", ["vgg16_no_top.h5", "vgg16_no_top.weights.h5"])
def test_keras_s_vgg_sees_the_colours_that_it_was_trained_on(vgg, name, file):
    """Inside of the image; a zero of the padding is another colour."""
    network, folder = vgg
    model = keras_deeplab.DeepLabV1(name, filters=4, backbone_weights=folder / file)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 3)).astype("float32")
    theirs = keras.Model(network.input, network.get_layer("block1_conv2").output)
    ours = keras.Model(model.input, model.get_layer("conv1_2_relu").output)
    expected = theirs(keras.applications.vgg16.preprocess_input(pixels.copy()))[:, 2:-2, 2:-2]
    np.testing.assert_allclose(ours(pixels)[:, 2:-2, 2:-2], expected, atol=1e-4 * float(np.max(expected)))
    for a, b in zip(model.get_layer("conv5_3").get_weights(), network.get_layer("block5_conv3").weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_recognise_is_public_and_takes_arrays(state):
    plan = recognise(state)
    spec = plan.spec
    assert (plan.source, spec.backbone, spec.backbone_settings) == ("vainf", "mobilenet_v2_vainf", {"alpha": 0.25})
