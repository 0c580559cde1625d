"""Every builder's networks give the same logits on Keras's other backends, and what those can't do says so."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from randomise import randomise
from tiny_backbone import tiny_backbone  # noqa: F401

import keras_deeplab

pytestmark = pytest.mark.slow

OTHER_BACKEND = """
import sys
import keras, numpy as np
import keras_deeplab
for name in sys.argv[1:]:
    case = np.load(name + ".npz")
    model = keras.saving.load_model(name + ".keras")
    outputs = model.predict(case["images"], verbose=0)
    assert outputs.shape == case["logits"].shape, (name, outputs.shape)
    error = np.abs(outputs - case["logits"]).max() / np.ptp(case["logits"])
    assert error < 1e-5, (name, error)
    print(keras.backend.backend(), name.rpartition("/")[2], f"{error:.1e}")
labels = keras_deeplab.predictor(model)(case["images"][0].astype("uint8"))
assert (labels == case["labels"]).mean() > 0.999
for refused in (
    lambda: model.export(sys.argv[1] + ".onnx", format="onnx"),
    lambda: keras_deeplab.export_tflite(model, sys.argv[1] + ".tflite", input_size=65),
    lambda: keras_deeplab.export_saved_model(model, sys.argv[1] + "_saved"),
):
    try:
        refused()
    except ValueError as error:
        assert "needs Keras's TensorFlow backend, and this process runs on " + keras.backend.backend() in str(error)
    else:
        raise AssertionError("nothing was refused")
"""


@pytest.fixture(scope="module")
def cases(tiny_backbone, tmp_path_factory):  # noqa: F811
    """The names of files: networks with random weights and statistics, pictures, and what TensorFlow makes of them."""
    folder = tmp_path_factory.mktemp("networks")
    models = {
        "v1": keras_deeplab.DeepLabV1("vgg11_caffe", num_classes=3, filters=16),
        "v2": keras_deeplab.DeepLabV2(tiny_backbone, num_classes=3, output_stride=8),
        "v3": keras_deeplab.DeepLabV3(tiny_backbone, num_classes=3, filters=16, flavour="torchvision"),
        "v3plus": keras_deeplab.DeepLabV3Plus(tiny_backbone, num_classes=3, filters=16),
    }
    images = np.random.default_rng(0).integers(0, 256, (1, 65, 81, 3)).astype("float32")
    for name, model in models.items():
        randomise(model)
        model.save(folder / f"{name}.keras")
        labels = keras_deeplab.predictor(model)(images[0].astype("uint8"))
        np.savez(folder / f"{name}.npz", images=images, logits=model.predict(images, verbose=0), labels=labels)
    return [str(folder / name) for name in models]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_logits_are_those_of_tensorflow(backend, cases):
    """JAX may live in another environment, with Keras: name its interpreter in KERAS_DEEPLAB_JAX_PYTHON."""
    python = os.environ.get("KERAS_DEEPLAB_JAX_PYTHON", sys.executable) if backend == "jax" else sys.executable
    if python == sys.executable and importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [python, "-c", OTHER_BACKEND, *cases],
        # Compiling is what takes JAX its time.
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(cases)
