"""The layers compute the same on Keras's other backends."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras import ops
from layer_reference import GEOMETRIES, POOLS, make, random, set_random_weights

from keras_deeplab import layers
from keras_deeplab.layers import DilatedAveragePooling2D, DilatedMaxPooling2D, ResizeBilinear

pytestmark = pytest.mark.slow

OTHER_BACKEND = """
import sys
try:
    import keras, numpy as np
except ImportError as error:
    sys.exit(f"cannot import {error.name}")
sys.path.insert(0, sys.argv[1])
from keras_deeplab import layers
cases = np.load(sys.argv[2], allow_pickle=True).item()
for name, (kind, config, weights, inputs, expected) in cases.items():
    layer = getattr(layers, kind).from_config(config)
    layer(inputs)
    layer.set_weights(weights)
    tensors = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], batch_size=len(x)), inputs)
    compiled = keras.Model(tensors, layer(tensors))
    for outputs in (layer(inputs), compiled.predict_on_batch(inputs)):
        outputs = keras.ops.convert_to_numpy(outputs)
        assert outputs.shape == expected.shape, (name, outputs.shape, expected.shape)
        error = np.abs(outputs - expected).max()
        assert error < 1e-5, (name, error)
assert "tensorflow" not in sys.modules
print(len(cases), "agree")
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_agree(backend, tmp_path):
    """JAX may live in another environment, with Keras: name its interpreter in KERAS_DEEPLAB_JAX_PYTHON."""
    python = os.environ.get("KERAS_DEEPLAB_JAX_PYTHON", sys.executable) if backend == "jax" else sys.executable
    if python == sys.executable and importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    cases = {}

    def add(layer, inputs):
        layer(inputs)
        if layer.weights:
            set_random_weights(layer)
        kind = type(layer).__name__
        outputs = ops.convert_to_numpy(layer(inputs))
        cases[f"{kind} {len(cases)}"] = (kind, layer.get_config(), layer.get_weights(), inputs, outputs)

    for kind, index in (("dense", 9), ("dense", 5), ("depthwise", 11), ("depthwise", 2), ("separable", 1)):
        kernel, rate, padding, size = GEOMETRIES[index]
        add(make(kind, kernel, rate, padding, multiplier=2), random(2, *size, 3).astype("float32"))
    for kind, index in ((DilatedMaxPooling2D, 7), (DilatedMaxPooling2D, 4), (DilatedAveragePooling2D, 3)):
        kernel, rate, padding, size = POOLS[index]
        add(kind(kernel, rate, padding), random(2, *size, 3).astype("float32"))
    for align_corners in (True, False):
        add(ResizeBilinear(align_corners), [random(1, 5, 4, 3).astype("float32"), np.zeros((1, 9, 7, 1), "float32")])
        add(layers.ScaleBilinear(0.75, align_corners), random(1, 11, 8, 3).astype("float32"))
    add(layers.UpsampleNearest(4), [random(1, 3, 4, 2).astype("float32"), np.zeros((1, 9, 14, 1), "float32")])
    add(layers.WindowedAveragePooling2D(3, (2, 4)), random(1, 9, 7, 2).astype("float32"))
    add(layers.Clip(-0.5, 0.25), random(1, 9, 7, 2).astype("float32"))
    np.save(tmp_path / "cases.npy", cases)
    result = subprocess.run(
        [python, "-c", OTHER_BACKEND, Path(layers.__file__).parents[2], tmp_path / "cases.npy"],
        # Compiling is what takes JAX its time.
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.stderr.startswith("cannot import"):
        pytest.skip(f"{python} {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{len(cases)} agree"
