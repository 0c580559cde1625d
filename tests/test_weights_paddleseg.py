"""PaddleSeg's DeepLabs: pickles read without running them, computed as by its published rules, written back."""

import pickle

import numpy as np
import pytest
from peers import difference, randomised

import keras_deeplab
from keras_deeplab.export import weights as export
from keras_deeplab.weights import recognise

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

from paddleseg_networks import DeepLab, ResNetVd, state_of  # noqa: E402


def saved(path, network, protocol=4):
    """A file as `paddle.save` writes it: arrays, and a table of names beside them."""
    state = state_of(network)
    path.write_bytes(pickle.dumps(state | {"StructuredToParameterName@@": {name: "x" for name in state}}, protocol))
    return path


@pytest.mark.parametrize("plus", [False, True])
def test_it_computes_the_same_and_goes_back(plus, tmp_path):
    network = randomised(DeepLab(ResNetVd(50), plus, channels=8))
    with pytest.warns(UserWarning, match=r"nothing tells align_corners, .*multi_grid=\(1, 2, 4\)"):
        model = keras_deeplab.load(saved(tmp_path / "model.pdparams", network), include_preprocessing=False)
    assert (model.spec.output_stride, model.spec.backbone) == (8, "resnet50_v1d")
    assert difference(model, network) < 1e-5
    state = state_of(network)
    back = keras_deeplab.export_weights(model, tmp_path / "back.pdparams", "paddleseg")
    assert back.keys() == pickle.loads((tmp_path / "back.pdparams").read_bytes()).keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


CONFIG = """
model:
  type: DeepLabV3
  backbone: {type: ResNet50_vd, output_stride: 16}
  aspp_ratios: [1, 6, 12, 18]
  align_corners: True
"""


def test_the_configuration_beside_the_file_tells_rates_and_corners(tmp_path):
    pytest.importorskip("yaml")
    body = ResNetVd(50, output_stride=16, multi_grid=(1, 1, 1))
    network = randomised(DeepLab(body, False, 8, ratios=(1, 6, 12, 18), align_corners=True))
    saved(tmp_path / "model.pdparams", network, protocol=2)
    (tmp_path / "deeplabv3.yml").write_text(CONFIG)
    model = keras_deeplab.load(tmp_path, include_preprocessing=False)
    assert (model.spec.output_stride, model.spec.resize) == (16, "align_corners")
    assert difference(model, network) < 1e-5
    assert export.state_dict(model, "paddleseg").keys() == state_of(network).keys()
    (tmp_path / "deeplabv3.yml").write_text(CONFIG.replace("18]", "18, 24]"))
    with pytest.raises(ValueError, match=r"3 atrous branches .*aspp_ratios are \(1, 6, 12, 18, 24\)"):
        keras_deeplab.load(tmp_path)


def test_the_network_that_was_published_with_both_conventions_is_asked_about():
    state = state_of(DeepLab(ResNetVd(101), True, channels=8))
    plan = recognise(state)
    with pytest.raises(ValueError, match=r"fit 2 networks.*=False or align_corners=True .*--align-corners"):
        plan.decided({}, "x")
    assert plan.decided({"align_corners": True}, "x").spec.resize == "align_corners"
    # The YAML that names another one as its base has the normalisation of its data, and no network.
    data = {
        "val_dataset": {"transforms": [{"type": "Normalize", "mean": [0.4, 0.4, 0.4]}]},
        "model": {"num_classes": 5},
    }
    told = recognise(state, configs={"x.yml": {"_base_": "y.yml", **data}})
    assert told.undecided == plan.undecided
    assert told.spec.preprocessing == ((0.4,) * 3, (0.5,) * 3)
    whole = {"type": "DeepLabV3P", "backbone": {"type": "ResNet101_vd"}}
    told = recognise(state, configs={"x.yml": {"model": whole}})
    # What it leaves out is as the code has it, which isn't as the published ones have it.
    assert (told.spec.settings["atrous_rates"], told.spec.settings["multi_grid"]) == ((6, 12, 18), (1, 1, 1))
    assert (told.undecided, told.assumed) == ((), ("include_preprocessing",))


def test_what_it_does_not_build_is_refused():
    with pytest.raises(ValueError, match="on a backbone that isn't built here"):
        keras_deeplab.load({"head.aspp.aspp_blocks.0._conv.weight": np.zeros((8, 8, 1, 1))})
    with pytest.raises(ValueError, match="on ResNet18_vd or 34_vd, which isn't built here"):
        keras_deeplab.load(state_of(DeepLab(ResNetVd(18), True, 8)))


def test_a_pickle_that_asks_for_code_is_refused_by_name(tmp_path):
    (tmp_path / "model.pdparams").write_bytes(pickle.dumps({"a": print}))
    with pytest.raises(ValueError, match=r"asks for 'builtins\.print'"):
        keras_deeplab.load(tmp_path / "model.pdparams")
