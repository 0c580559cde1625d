"""Logits of whole networks against golden values of our own making: what a checkout has without a reference folder.

`reference/make.py` wrote the networks once more in plain PyTorch, and the files beside it.
"""

from pathlib import Path

import numpy as np
import pytest
from lanes import slow_except
from reference.weights import image, weight

import keras_deeplab

FOLDER = Path(__file__).parent / "reference"
# file: builder, backbone, the builder's other arguments
MODELS = {
    "deeplabv3__mobilenet_v2__tf": (keras_deeplab.DeepLabV3, "mobilenet_v2", {"flavour": "tf"}),
    "deeplabv3plus__mobilenet_v2__tf": (keras_deeplab.DeepLabV3Plus, "mobilenet_v2", {"flavour": "tf"}),
    "deeplabv3__resnet18__torchvision": (
        keras_deeplab.DeepLabV3,
        "resnet18",
        {"flavour": "torchvision", "output_stride": 8},
    ),
    "deeplabv3__resnet18__vainf": (keras_deeplab.DeepLabV3, "resnet18", {"flavour": "vainf"}),
    "deeplabv3plus__resnet18__vainf": (keras_deeplab.DeepLabV3Plus, "resnet18", {"flavour": "vainf"}),
    "deeplabv1__vgg11_caffe": (keras_deeplab.DeepLabV1, "vgg11_caffe", {}),
    "deeplabv2__vgg11_caffe": (keras_deeplab.DeepLabV2, "vgg11_caffe", {}),
}
# One of each builder and of each convention.
QUICK = (
    "deeplabv3plus__mobilenet_v2__tf",
    "deeplabv3__resnet18__vainf",
    "deeplabv1__vgg11_caffe",
    "deeplabv2__vgg11_caffe",
)


def test_every_file_has_its_model():
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_except(MODELS, *QUICK))
def test_logits_are_the_golden_ones(name):
    builder, backbone, arguments = MODELS[name]
    golden = np.load(FOLDER / f"{name}.npz")
    model = builder(backbone, num_classes=golden["logits"].shape[1], filters=24, **arguments)
    for variable in model.weights:
        variable.assign(weight(variable.path, variable.shape))
    logits = np.asarray(model(image(*golden["size"])))[0]
    rows, columns = golden["positions"].T
    error = np.abs(logits[rows, columns] - golden["logits"]).max() / np.abs(golden["logits"]).max()
    # float32 against float64 through fifty layers; a rate or a resize of another kind is off by a hundred times that.
    assert error < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_files_are_what_the_script_makes(name):
    pytest.importorskip("torch", reason="reference/make.py needs PyTorch")
    from reference import make

    golden, made = np.load(FOLDER / f"{name}.npz"), make.golden(name)
    assert set(golden) == set(made)
    for key in ("size", "positions"):
        np.testing.assert_array_equal(golden[key], made[key])
    np.testing.assert_allclose(golden["logits"], made["logits"], rtol=1e-6, atol=1e-6)
