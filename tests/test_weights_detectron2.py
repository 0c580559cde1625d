"""Detectron2's DeepLabs: .pth and .pkl, computed as by its published rules, told by the configuration, written back."""

import pickle

import numpy as np
import pytest
from peers import difference, randomised, state_of

import keras_deeplab
from keras_deeplab.backbones.preprocessing import normalise
from keras_deeplab.export import weights as export

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

from detectron2_networks import ResNet, Segmentor  # noqa: E402


def test_it_computes_the_same_and_goes_back_without_a_configuration(tmp_path):
    network = randomised(Segmentor(ResNet(50), True, channels=8))
    state = state_of(network)
    content = {"model": state, "__author__": "MSRA", "matching_heuristics": True}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, 2))
    with pytest.warns(UserWarning, match=r"nothing tells output_stride, atrous_rates, multi_grid, pooling_window of"):
        model = keras_deeplab.load(tmp_path / "model.pkl", include_preprocessing=False)
    assert model.spec.settings["pooling_window"] == (32, 64)  # crops of 512x1024
    assert difference(model, network) < 1e-5
    back = keras_deeplab.export_weights(model, tmp_path / "back.pth", "detectron2")
    assert back.keys() == torch.load(tmp_path / "back.pth", weights_only=True)["model"].keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


CONFIG = """
MODEL:
  PIXEL_MEAN: [103.53, 116.28, 123.675]
  PIXEL_STD: [1.0, 1.0, 1.0]
  RESNETS: {RES5_DILATION: 2, RES5_MULTI_GRID: [1, 1, 1], STRIDE_IN_1X1: true, DEPTH: 50}
  SEM_SEG_HEAD: {NAME: DeepLabV3Head, ASPP_DILATIONS: [3, 6, 9]}
INPUT:
  FORMAT: BGR
  CROP: {ENABLED: true, TYPE: absolute, SIZE: "(64, 96)"}
"""


@pytest.fixture(scope="module")
def msra(tmp_path_factory):
    """DeepLabV3 on MSRA's ResNet-50, and its folder."""
    body = ResNet(50, deep=False, multi_grid=(1, 1, 1), stride_in_1x1=True)
    network = randomised(Segmentor(body, False, 8, dilations=(3, 6, 9), window=(4, 6)))
    folder = tmp_path_factory.mktemp("detectron2")
    torch.save({"model": network.state_dict(), "iteration": 90000}, folder / "model_final.pth")
    return network, folder


def test_the_configuration_beside_the_file_tells_what_the_arrays_leave_open(msra):
    pytest.importorskip("yaml")
    network, folder = msra
    with pytest.raises(ValueError, match=r"fit 2 networks.*backbone='resnet50' or backbone='resnet50_msra'"):
        keras_deeplab.load(folder)
    (folder / "config.yaml").write_text(CONFIG)
    model = keras_deeplab.load(folder)
    assert (model.spec.backbone, model.spec.preprocessing) == ("resnet50_msra", "detectron2")
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 128, 192, 3)).astype("float32")  # windows of half its sides
    with torch.no_grad():
        bgr = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2)))
        mean = torch.tensor([103.53, 116.28, 123.675])[:, None, None]
        expected = network(bgr - mean).numpy().transpose(0, 2, 3, 1)
    assert np.abs(np.asarray(model(pixels)) - expected).max() / np.ptp(expected) < 1e-5
    assert export.state_dict(model, "detectron2").keys() == state_of(network).keys()
    for old, new, message in [
        ("FORMAT: BGR", "FORMAT: YUV", "trained with FORMAT, PIXEL_MEAN and PIXEL_STD"),
        ("DEPTH: 50", "RES4_DILATION: 2", r"RES5_DILATION \(2, 2\)"),
    ]:
        (folder / "config.yaml").write_text(CONFIG.replace(old, new))
        with pytest.raises(ValueError, match=message):
            keras_deeplab.load(folder)


def test_bgr_with_the_mean_and_deviation_of_rgb():
    pixels = np.array([[[[10.0, 20.0, 30.0]]]], "float32")
    found = np.asarray(normalise("torch_bgr")(pixels))[0, 0, 0]
    np.testing.assert_allclose(found, (np.array([30, 20, 10]) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375])


def test_separable_convolutions_are_refused():
    names = ("convs.0.weight", "convs.1.depthwise.weight")
    arrays = {f"sem_seg_head.decoder.res5.project_conv.{name}": np.zeros((8, 8, 1, 1)) for name in names}
    with pytest.raises(ValueError, match="separable convolutions or a third map"):
        keras_deeplab.load(arrays)
