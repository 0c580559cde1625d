"""The rules between a source's arrays and a model's, by themselves: names, axes, blocks of channels, stems."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_deeplab.networks import network
from keras_deeplab.weights import filling, own, tf1, torchvision
from keras_deeplab.weights.assign import assign
from keras_deeplab.weights.names import KERAS, KERAS_3, TORCH, rename, rows, their_name, translate, unwrap
from keras_deeplab.weights.names import renamed as renamed_shapes
from keras_deeplab.weights.plan import Plan, all_layers, class_layers, torch_head

SPEC = network("DeepLabV3", "resnet18", num_classes=2, output_stride=8, atrous_rates=(6, 12, 18))
ROWS = (
    ("stage{stage:1-3}.{unit}.conv", "s{stage}_u{unit+1}"),
    ("twice{n}.twice{n}", "double{n}"),
    (r"{part:left|right}.{free:\w+}", "{part}_{free}"),
    ("skips.{n:2|4|6}", "skip{n-1}"),
)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stage1.0.conv", "s1_u1"),
        ("stage3.11.conv", "s3_u12"),
        ("twice7.twice7", "double7"),
        ("left.any_thing", "left_any_thing"),
        ("skips.4", "skip3"),
        ("stage4.0.conv", None),
        ("stage0.0.conv", None),
        ("stage1.0.convolution", None),
        ("stage1x0.conv", None),
        ("stage1.0xconv", None),
        ("twice7.twice8", None),
        ("middle.any", None),
        ("skips.3", None),
    ],
)
def test_names_follow_their_rows_in_both_directions(theirs, ours):
    assert rename(theirs, ROWS) == ours
    if ours is not None:
        assert rename(ours, ROWS, back=True) == theirs
    assert rename("s1_u1", ROWS, back=True) == "stage1.0.conv"
    assert rename("skip2", ROWS, back=True) is None


def test_what_stands_on_one_side_only_is_given():
    table = ((r"{net:\w+}/conv{n}", "conv{n}"),)
    assert rename("mine/conv3", table) == "conv3"
    assert rename("conv3", table, back=True, net="theirs") == "theirs/conv3"


@pytest.mark.parametrize("dialect", [TORCH, KERAS, KERAS_3, tf1.DIALECT])
def test_every_kind_of_variable_has_a_name_that_leads_back(dialect):
    table = rows([("a.conv", "a.bn", "first"), ("a.depthwise", None, "first_depthwise")], "net.", "own_")
    if dialect is tf1.DIALECT:
        table = (("a/{part:expand|depthwise}", "own_{part}"),)
        paths = ["own_expand/kernel", "own_depthwise/kernel", "own_expand/bias", "own_expand_BN/gamma"]
        paths += ["own_depthwise_BN/moving_variance"]
    else:
        paths = ["own_first/kernel", "own_first/bias", "own_first_depthwise/kernel"]
        paths += [f"own_first_BN/{leaf}" for leaf in ("gamma", "beta", "moving_mean", "moving_variance")]
    names = [their_name(path, table, dialect) for path in paths]
    assert None not in names
    assert len(set(names)) == len(names)
    shapes = {name: (index,) for index, name in enumerate(names)}
    assert renamed_shapes({**shapes, "other.weight": (9,)}, table, dialect) == {
        path: (index,) for index, path in enumerate(paths)
    }
    assert their_name("elsewhere/kernel", table, dialect) is None


def test_translated_arrays_keep_what_has_no_row_and_leave_out_what_is_the_trainings():
    table = rows([("conv", "bn", "first")])
    arrays = {"conv.weight": np.ones(3), "bn.num_batches_tracked": np.array(7), "strange": np.zeros(2)}
    found, origins = translate(arrays, table, TORCH)
    assert set(found) == {"first/kernel", "strange"}
    assert origins == {"first/kernel": "conv.weight", "strange": "strange"}
    both = (("one", "first"), ("other", "first"))
    same = {"one.weight": np.array([1.0, np.nan]), "other.weight": np.array([1.0, np.nan])}
    assert translate(same, both, TORCH)[1] == {"first/kernel": "one.weight"}
    for other in (np.array([1.0, 2.0]), np.array([1.0])):
        with pytest.raises(ValueError, match=r"'one\.weight' and 'other\.weight' are two names of one tensor"):
            translate({"one.weight": np.array([1.0, 1.0]), "other.weight": other}, both, TORCH)


def test_what_a_script_wrapped_is_unwrapped():
    inner = {"module.a.weight": 1, "module.b.weight": 2}
    assert unwrap({"epoch": 1, "state_dict": inner}) == {"a.weight": 1, "b.weight": 2}
    assert unwrap({"model": {"net": inner}}) == {"a.weight": 1, "b.weight": 2}
    assert unwrap({"conv/conv/kernel:0": 1, "bn/gamma:0": 2}) == {"conv/kernel": 1, "bn/gamma": 2}
    assert unwrap({"conv/conv/kernel": 1}) == {"conv/conv/kernel": 1}
    both = {"state_dict": {"conv.weight": 1}, "ema": {"module.conv.weight": 2}}  # which is meant, nothing tells
    assert unwrap(both) == {"state_dict.conv.weight": 1, "ema.conv.weight": 2}


# Axes -------------------------------------------------------------------------------------------------------------


def layers_of(kernel, depthwise=False, groups=1):
    inputs = keras.Input((None, None, 4))
    kind = keras.layers.DepthwiseConv2D(kernel, name="layer") if depthwise else None
    layer = kind or keras.layers.Conv2D(6, kernel, groups=groups, name="layer")
    layer(inputs)
    return {"layer": layer}, layer.kernel


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_kernel_of_torch_has_its_height_and_width_where_ours_has_them(depthwise):
    layers, variable = layers_of((2, 5), depthwise)
    plan = Plan("mine", SPEC, (), TORCH)
    shape = (4, 1, 2, 5) if depthwise else (6, 4, 2, 5)
    theirs = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    ours = plan.arrange(theirs, variable, layers)
    assert ours.shape == tuple(variable.shape)
    for place in np.ndindex(*shape):
        out, channel, row, column = place
        ours_at = (row, column, out, channel) if depthwise else (row, column, channel, out)
        assert ours[ours_at] == theirs[place]
    np.testing.assert_array_equal(plan.arrange(ours, variable, layers, back=True), theirs)
    own_axes = dataclasses.replace(plan, dialect=KERAS)
    assert own_axes.arrange(ours, variable, layers) is ours


def test_fully_connected_kernels_go_both_ways():
    layers, variable = layers_of((2, 3))
    plan = Plan("mine", SPEC, (), TORCH, flat="layer")
    theirs = np.random.default_rng(0).normal(size=(6, 4 * 2 * 3))
    ours = plan.arrange(theirs, variable, layers)
    np.testing.assert_array_equal(ours, theirs.reshape(6, 4, 2, 3).transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(plan.arrange(ours, variable, layers, back=True), theirs)
    dense = keras.layers.Dense(3, name="layer")
    dense(keras.Input((5,)))
    matrix = np.arange(15.0).reshape(3, 5)
    np.testing.assert_array_equal(plan.arrange(matrix, dense.kernel, {"layer": dense}), matrix.T)
    bias = np.arange(3.0)
    assert plan.arrange(bias, dense.bias, {"layer": dense}) is bias


def test_blocks_of_channels_come_in_our_order():
    layers, variable = layers_of((1, 1))
    plan = Plan("mine", SPEC, (), TORCH, blocks={"layer": ((1, 3), (1, 0))})
    theirs = np.arange(24.0).reshape(6, 4, 1, 1)
    ours = plan.arrange(theirs, variable, layers)
    np.testing.assert_array_equal(ours[0, 0], theirs[:, [1, 2, 3, 0], 0, 0].T)
    np.testing.assert_array_equal(plan.arrange(ours, variable, layers, back=True), theirs)
    three = Plan("mine", SPEC, (), KERAS, blocks={"layer": ((1, 1, 2), (2, 0, 1))})
    kernel = np.arange(24.0).reshape(1, 1, 4, 6)
    there = three.arrange(kernel, variable, layers)
    np.testing.assert_array_equal(there, kernel[:, :, [2, 3, 0, 1]])
    np.testing.assert_array_equal(three.arrange(there, variable, layers, back=True), kernel)
    other = np.zeros((1, 1, 5, 6))
    assert three.arrange(other, variable, layers) is other


# Plans ------------------------------------------------------------------------------------------------------------


def test_what_arrays_leave_open_is_asked_and_what_a_description_says_may_be_overruled():
    plan = Plan("mine", SPEC, (), TORCH, undecided=({"backbone": "resnet18"}, {"backbone": "resnet34"}))
    with pytest.raises(ValueError, match=r"fit 2 networks.*backbone='resnet18' or backbone='resnet34'.*--backbone"):
        plan.decided({}, "the file")
    with pytest.raises(ValueError, match="received backbone='resnet50'"):
        plan.decided({"backbone": "resnet50"}, "the file")
    found = plan.decided({"backbone": "resnet34"}, "the file")
    assert (found.spec.backbone, found.undecided) == ("resnet34", ())
    told = Plan("mine", SPEC, (), TORCH, told={"backbone": ("resnet18", "resnet34")})
    assert told.decided({}, "the file").spec.backbone == "resnet18"
    assert told.decided({"backbone": "resnet34"}, "the file").spec.backbone == "resnet34"
    assert told.decided({"backbone": "resnet50"}, "the file").spec.backbone == "resnet18"
    told.agrees(SPEC, "the file")
    told.agrees(dataclasses.replace(SPEC, backbone="resnet50"), "the file")  # of which the arrays tell themselves
    with pytest.raises(ValueError, match=r"holds weights of backbone='resnet18'.*build it with backbone='resnet18'"):
        told.agrees(dataclasses.replace(SPEC, backbone="resnet34"), "the file")


def test_rates_that_a_description_tells_are_those_of_the_model_at_either_stride():
    plan = Plan("mine", SPEC, (), TORCH, rates_told=True)
    for stride, rates in ((8, (6, 12, 18)), (16, (6, 12, 18)), (16, (3, 6, 9))):
        settings = {**SPEC.settings, "atrous_rates": rates}
        plan.agrees(dataclasses.replace(SPEC, output_stride=stride, settings=settings), "the file")
    for stride, rates in ((8, (3, 6, 9)), (16, (12, 24, 36)), (8, None)):
        settings = {**SPEC.settings, "atrous_rates": rates}
        with pytest.raises(ValueError, match=r"holds weights of atrous_rates=\(6, 12, 18\)"):
            plan.agrees(dataclasses.replace(SPEC, output_stride=stride, settings=settings), "the file")


def test_names_of_no_layer_are_unknown_and_the_kernel_tells_the_channels():
    table = rows([("first", "norm", "conv1"), ("logits", None, "logits")])
    plan = Plan("mine", SPEC, tuple(table), TORCH, optional="extra.*")
    names = ["first.weight", "norm.running_mean", "norm.num_batches_tracked", "extra.bias", "strange.weight"]
    assert plan.unknown(names) == ["strange.weight"]
    assert Plan("mine", SPEC, (), TORCH).unknown(names) == []
    assert plan.with_channels({"first.weight": (64, 5, 7, 3)}).spec.channels == 5
    assert plan.with_channels({"first.weight": (64, 5)}) is plan
    assert plan.with_channels({"logits.weight": (64, 5, 1, 1)}) is plan
    own_axes = dataclasses.replace(plan, rows=(), dialect=KERAS)
    assert own_axes.with_channels({"conv1/kernel": (7, 7, 4, 64)}).spec.channels == 4


def test_a_torch_head_tells_classes_filters_and_the_order_of_its_branches():
    paths = {f"aspp{n}/kernel": (48, 9, 3, 3) for n in range(4)} | {"image_pooling/kernel": (48, 9, 1, 1)}
    paths |= {"concat_projection/kernel": (48, 240, 1, 1), "logits/kernel": (7, 48, 1, 1)}
    assert torch_head(paths) == (7, {"filters": 48}, {"concat_projection": ((48,) * 5, (4, 0, 1, 2, 3))})
    paths |= {"feature_projection0/kernel": (12, 24, 1, 1)}
    classes, settings, blocks = torch_head(paths, low_level_first=True)
    assert (classes, settings) == (7, {"filters": 48, "low_level_filters": 12})
    assert blocks["decoder_conv0"] == blocks["decoder_conv0_depthwise"] == ((12, 48), (1, 0))
    assert "decoder_conv0" not in torch_head(paths)[2]
    del paths["logits/kernel"]
    assert torch_head(paths)[0] is None
    with pytest.raises(ValueError, match=r"the kernel of 'concat_projection' has the shape \(48, 240\)"):
        torch_head(paths | {"concat_projection/kernel": (48, 240)})


def test_class_layers_and_layers_of_models_in_models():
    assert class_layers(["aspp0", "auxiliary_logits", "logits"]) == ["auxiliary_logits", "logits"]
    assert class_layers(["decoder_conv0", "feature_projection0"]) == ["decoder_conv0", "feature_projection0"]
    assert class_layers(["decoder_conv0", "logits"]) == ["logits"]
    assert class_layers(["aspp0", None]) == []
    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 1, name="deep")], name="inner")
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, inner(inputs))
    assert {"inner", "deep"} <= {layer.name for layer in all_layers(model)}


def test_arrays_are_all_used_once_or_nothing_is_changed():
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="last")(keras.layers.Conv2D(3, 1, name="first")(inputs)))
    arrays = {v.path: np.full(v.shape, 1.5, "float32") for v in model.weights}
    before = [v.numpy() for v in model.weights]
    assert assign(model, arrays, "it", dry=True) is model
    for value, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    wrong = arrays | {"last/kernel": np.ones((1, 1, 3, 9)), "last/bias": np.array([1, np.inf]), "more": np.ones(3)}
    del wrong["first/bias"]
    with pytest.raises(ValueError, match="it don't fit") as error:
        assign(model, wrong, "it", names={"last/bias": "theirs", "more": "more"})
    for line in (
        "Missing from the file (1):\n  first/bias (3,)",
        "Left over in the file (1):\n  more (3,)",
        "Of another shape (1):\n  last/kernel: (1, 1, 3, 9), the model has (1, 1, 3, 2)",
        "not finite (1):\n  last/bias, there 'theirs'",
    ):
        assert line in str(error.value)
    assert "there 'more'" not in str(error.value)
    np.testing.assert_array_equal(model.weights[0].numpy(), before[0])
    assign(model, arrays, "it", fresh_layers=["last"])
    assert model.get_layer("first").get_weights()[0].min() == 1.5
    np.testing.assert_array_equal(model.get_layer("last").get_weights()[0], before[2])


# Stems ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_an_adapted_stem_answers_equal_channels_as_before(channels):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, 3, 2))
    before = kernel.sum(2)  # what an image of equal channels is multiplied by
    for mode in ("sum", "repeat", "mean", "zero"):
        if mode == "zero" and channels < 3:
            with pytest.raises(ValueError, match=f"stem='zero' adds channels: {channels} are fewer than .* 3"):
                filling.STEMS[mode](kernel, channels)
            continue
        found = filling.STEMS[mode](kernel, channels)
        assert found.shape == (3, 3, channels, 2)
        if mode == "repeat":
            for channel in range(channels):
                np.testing.assert_allclose(found[:, :, channel], kernel[:, :, channel % 3] * 3 / channels)
        elif mode == "zero":
            np.testing.assert_array_equal(found[:, :, :3], kernel)
            assert not found[:, :, 3:].any()
        else:
            np.testing.assert_allclose(found.sum(2), before * (channels / 3 if mode == "mean" else 1))
            assert np.ptp(found, axis=2).max() < 1e-12


@pytest.mark.parametrize(("preprocessing", "flipped"), [("tf", False), ("caffe", True)])
def test_blue_stays_first_where_the_network_has_it_so(preprocessing, flipped):
    _, variable = layers_of((3, 3))
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 6)).astype("float32")
    arrays = {variable.path: kernel}
    with pytest.warns(UserWarning, match="it has 3 input channels and 4 were asked for.*stem='zero'"):
        filling.stem_for(None, "it", preprocessing)(arrays, variable)
    found = arrays[variable.path]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :, :3], kernel)
    assert not found[:, :, 3].any()
    arrays = {variable.path: kernel}
    with pytest.warns(UserWarning, match="stem='repeat'"):
        filling.stem_for("repeat", "it", preprocessing)(arrays, variable)
    # The fourth repeats the first of red, green and blue: of a network that has blue first that is its third.
    repeated = kernel[:, :, 2 if flipped else 0] * 0.75
    np.testing.assert_allclose(arrays[variable.path][:, :, 3], repeated, rtol=1e-6)
    wide = np.zeros((3, 3, 6, 6), "float32")
    arrays = {variable.path: wide}
    with pytest.warns(UserWarning, match="stem='sum'"):
        filling.stem_for(None, "it", preprocessing)(arrays, variable)
    arrays = {variable.path: np.zeros((3, 3, 4, 6), "float32")}
    untouched = arrays[variable.path]
    filling.stem_for(None, "it", preprocessing)(arrays, variable)
    assert arrays[variable.path] is untouched


@pytest.mark.parametrize(("channels", "order"), [(1, [0]), (2, [0, 1]), (3, [2, 1, 0]), (5, [2, 1, 0, 3, 4])])
def test_the_first_three_channels_are_turned_round_where_there_are_so_many(channels, order):
    kernel = np.arange(4 * channels * 6).reshape(2, 2, channels, 6)
    np.testing.assert_array_equal(filling._blue_first(kernel), kernel[:, :, order])


# Sources ----------------------------------------------------------------------------------------------------------


def test_the_stride_of_a_head_is_that_of_the_map_it_sees():
    def layer(name, kind, before, **config):
        nodes = [{"args": [tensor(each) for each in before]}]
        return {"class_name": kind, "config": {"name": name, **config}, "inbound_nodes": nodes}

    def tensor(name):
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}

    layers = [
        layer("images", "InputLayer", []),
        layer("one", "Conv2D", ["images"], strides=[2, 2]),
        layer("two", "MaxPooling2D", ["one"], strides=[2, 2]),
        layer("three", "Conv2D", ["two"], strides=[4, 4]),
        layer("up", "UpsampleNearest", ["three"], factor=[2, 2]),
        layer("back", "ResizeBilinear", ["three", "two"]),
        layer("joined", "Add", ["back", "two"]),
    ]
    assert own.stride_of_head(layers) == 16
    for before, stride in (("three", 16), ("up", 8), ("back", 4), ("joined", 4), ("one", 2), ("images", 1)):
        assert own.stride_of_head([*layers, layer("aspp0", "Conv2D", [before], strides=[1, 1])]) == stride, before


def test_what_torchvision_s_and_slim_s_shapes_tell():
    units = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
    for depth, counts in units.items():
        paths = {f"layer{s}_{u}_conv1/kernel": (1,) for s, count in enumerate(counts, 1) for u in range(count)}
        if depth >= 50:
            paths |= {"layer1_0_conv3/kernel": (256, 64, 1, 1), "layer1_0_conv2/kernel": (64, 64, 3, 3)}
        assert torchvision.resnet_name(paths, "it") == f"resnet{depth}"
        assert torchvision.resnet_name(paths, "it", suffix="_x") == f"resnet{depth}_x"
    with pytest.raises(ValueError, match=r"wide or grouped ResNet.*\(128, 128, 3, 3\)"):
        torchvision.resnet_name(paths | {"layer1_0_conv2/kernel": (128, 128, 3, 3)}, "it")
    with pytest.raises(ValueError, match=r"ResNet of \[1, 0, 0, 0\] units without bottlenecks"):
        torchvision.resnet_name({"layer1_0_conv1/kernel": (1,)}, "it")
    assert torchvision.width_of({"last/kernel": (160,)}, "last", 160) == {}
    assert torchvision.width_of({"last/kernel": (80,)}, "last", 160) == {"alpha": 0.5}
    assert torchvision.width_of({"last/kernel": (640,)}, "last", 160) == {"alpha": 4.0}
    for filters in (0, 641):
        with pytest.raises(ValueError, match="times the 160 filters"):
            torchvision.width_of({"last/kernel": (filters,)}, "last", 160)
    assert torchvision.vgg_table(11)[:3] == [("0", None, "conv1_1"), ("3", None, "conv2_1"), ("6", None, "conv3_1")]
    assert torchvision.vgg_table(11, norm=True)[:2] == [("0", "1", "conv1_1"), ("4", "5", "conv2_1")]
    paths = {"Conv1/kernel": (3, 3, 3, 32), "block_1_project/kernel": (1, 1, 96, 24)}
    assert tf1.mobilenet_v2_width(paths) == {"alpha": 1.0, "divisible_by": 8}
    narrow = paths | {"block_16_project/kernel": (1, 1, 9, 160), "block_1_project/kernel": (1, 1, 96, 12)}
    assert tf1.mobilenet_v2_width(narrow) == {"alpha": 0.5, "divisible_by": 1}
    for filters in (0, 1281):
        with pytest.raises(ValueError, match="times the 320 filters of width 1"):
            tf1.mobilenet_v2_width(paths | {"block_16_project/kernel": (1, 1, 9, filters)})
    assert tf1.export_rows({"entry_flow_conv1_1/kernel": 0}, {})[2] == {"net": "xception_41"}
    assert tf1.export_rows({"block3_unit_7_conv1/kernel": 0}, {})[2] == {"net": "resnet_v1_101"}
    assert tf1.export_rows({}, {})[2] == {"net": "resnet_v1_50"}
