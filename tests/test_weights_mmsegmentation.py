"""MMSegmentation's DeepLabs: computed as by its published rules, told by the file's configuration, written back."""

import sys
from types import ModuleType

import numpy as np
import pytest
from peers import difference, randomised, state_of

import keras_deeplab
from keras_deeplab.export import weights as export
from keras_deeplab.specs import Classes
from keras_deeplab.weights import recognise
from keras_deeplab.weights.describe import describe

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

from mmsegmentation_networks import MobileNetV2, ResNet, Segmentor  # noqa: E402

NETWORKS = {
    "v3 r18 v1c": lambda: Segmentor(ResNet(18), plus=False, channels=8, auxiliary=6),
    "v3+ r18b": lambda: Segmentor(ResNet(18, ""), plus=True, channels=8, auxiliary=64),
    "v3+ mobilenet": lambda: Segmentor(MobileNetV2(), plus=True, channels=8, auxiliary=6),
}


def assert_goes_back(model, state):
    back = export.state_dict(model, "mmsegmentation")
    assert back.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_the_same_and_goes_back(name):
    network = randomised(NETWORKS[name]())
    state = state_of(network)
    corners = {} if "mobilenet" in name else {"align_corners": False}
    with pytest.warns(UserWarning, match=r"nothing tells .*output_stride, atrous_rates, multi_grid of its network"):
        model = keras_deeplab.load(state, include_preprocessing=False, auxiliary_head=True, **corners)
    assert (model.spec.output_stride, model.spec.preprocessing) == (8, None)
    assert difference(model, network) < 1e-5
    assert_goes_back(model, state)


def test_another_backbone_is_refused_by_name():
    names = ("decode_head.image_pool.1.conv.weight", "decode_head.conv_seg.weight", "backbone.encoder.0.weight")
    with pytest.raises(ValueError, match="on a backbone that isn't built here"):
        keras_deeplab.load({name: np.zeros((8, 8, 1, 1)) for name in names})


CONFIG = """norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    pretrained='open-mmlab://resnet50_v1c',
    backbone=dict(
        type='ResNetV1d', depth=50, dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1), multi_grid=(1, 2, 4),
        norm_cfg=dict(type='SyncBN', requires_grad=True), style='pytorch', contract_dilation=True),
    decode_head=dict(type='DepthwiseSeparableASPPHead', dilations=(1, 6, 12, 18), align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(), test_cfg=dict(mode='slide', crop_size=(769, 769)))
work_dir = './work_dirs/' + 'x'
"""


def history_buffer():
    """What MMEngine logs the losses in, an object of its own class."""
    module = ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    buffer = module.HistoryBuffer()
    buffer._log_history = np.arange(3.0)
    return module, buffer


@pytest.fixture(scope="module")
def d16(tmp_path_factory):
    """A ResNet of 50 layers, narrow, at output stride 16 with the multi-grid and corners aligned, and its file."""
    import torch

    body = ResNet(50, "v1d", strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), multi_grid=(1, 2, 4))
    network = randomised(Segmentor(body, True, 8, 2, (1, 6, 12, 18), align_corners=True))
    meta = {"config": CONFIG, "CLASSES": ("sky", "road"), "PALETTE": [[1, 2, 3], [4, 5, 6]], "mmseg_version": "0.30"}
    path = tmp_path_factory.mktemp("mmseg") / "iter_40000.pth"
    module, buffer = history_buffer()
    content = {"meta": meta, "state_dict": network.state_dict(), "message_hub": {"log_scalars": {"loss": buffer}}}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mmengine", "mmengine.logging", module.__name__):
            patch.setitem(sys.modules, name, module)
        torch.save(content, path)
    return network, path


def test_the_configuration_in_the_file_tells_rates_corners_and_classes(d16):
    network, path = d16
    model = keras_deeplab.load(path, include_preprocessing=False)
    assert model.spec.classes == Classes(("sky", "road"), ((1, 2, 3), (4, 5, 6)))
    assert (model.spec.output_stride, model.spec.resize) == (16, "align_corners")
    assert difference(model, network) < 1e-5
    assert_goes_back(model, state_of(network))
    told = describe(path)
    assert "sky, road" in told
    assert "#010203" in told
    bare = {"include_preprocessing": False, "atrous_rates": (12, 24, 36), "output_stride": 8}
    with pytest.raises(ValueError, match=r"fit 2 networks.*align_corners=False or align_corners=True"):
        keras_deeplab.load(state_of(network), **bare)
    # As the base configurations have it, which is another network.
    other = keras_deeplab.load(state_of(network), align_corners=False, multi_grid=(1, 1), **bare)
    assert difference(other, network) > 1e-3


def plan_of(depth, configs=None):
    return recognise(state_of(Segmentor(ResNet(depth), True, 8)), configs=configs)


def settings_of(plan, **asked):
    spec = plan.decided(asked, "x").spec
    return spec.resize, spec.output_stride, spec.settings["atrous_rates"], spec.settings.get("multi_grid")


def test_arrays_alone_are_asked_for_what_published_files_differ_in():
    plan = plan_of(50)
    with pytest.raises(ValueError, match=r"fit 3 networks.* or align_corners=False, multi_grid=\(1, 2\) \(keras"):
        plan.decided({}, "x")
    with pytest.raises(ValueError, match=r"give multi_grid=\(1, 1\) or .*received align_corners=False"):
        plan.decided({"align_corners": False}, "x")
    assert settings_of(plan, align_corners=True) == ("align_corners", 8, (12, 24, 36), (1, 1))
    assert settings_of(plan, multi_grid=[1, 2]) == ("half_pixel_centers", 16, (6, 12, 18), (1, 2))
    # Whoever says all of it may have trained another one.
    assert settings_of(plan, align_corners=True, multi_grid=(1, 2))[1] == 8
    assert plan_of(18).undecided == ({"align_corners": False}, {"align_corners": True})


def test_a_configuration_that_builds_on_another_says_what_it_says():
    base = {"_base_": "./deeplabv3plus_r50-d8_769x769_40k_cityscapes.py"}
    depth = {**base, "model": {"backbone": {"depth": 101}}}
    assert plan_of(50, {"x.py": depth}).undecided == plan_of(50).undecided
    corners = {**base, "model": {"decode_head": {"align_corners": True}}}
    plan = plan_of(50, {"x.py": corners})
    assert (plan.undecided, plan.spec.resize) == ((), "align_corners")
    assert plan.assumed == ("output_stride", "atrous_rates", "multi_grid", "include_preprocessing")
    whole = {"model": {"backbone": {"type": "ResNetV1c"}, "decode_head": {"type": "DepthwiseSeparableASPPHead"}}}
    spec = plan_of(50, {"x.py": whole}).spec
    assert (spec.output_stride, spec.settings["atrous_rates"]) == (32, (6, 12, 18))  # as the code has it


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("strides=(1, 2, 2, 1)", "strides=(1, 2, 2, 2)", r"dilations \(1, 1, 1, 2\).* isn't built here"),
        ("contract_dilation=True", "contract_dilation=False", "contract_dilation=False"),
        ("multi_grid=(1, 2, 4)", "multi_grid=(1, 3, 5)", r"multi_grid=\(1, 3, 5\)"),
        ("type='SyncBN', requires_grad=True), style", "type='GN'), style", "norm_cfg={'type': 'GN'}"),
        ("style='pytorch'", "style='caffe'", "style 'caffe'"),
        ("train_cfg", "data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1]), train_cfg", "trained on BGR"),
        ("model = dict(", "model = dict((", "is no Python"),
    ],
)
def test_a_configuration_of_another_network_is_refused(d16, old, new, message):
    meta = {"cfg": CONFIG.replace(old, new)}
    assert meta["cfg"] != CONFIG
    with pytest.raises(ValueError, match=message):
        keras_deeplab.load({"state_dict": state_of(d16[0]), "meta": meta})
