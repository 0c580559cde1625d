"""A program: the same training on one device and, with maps computed again, on two virtual CPUs; prints the greatest
differences as JSON.

[KERAS_BACKEND=jax] python tests/distributed_training.py
"""

import json
import os
import sys
import tempfile
from pathlib import Path

if os.environ.get("KERAS_BACKEND") == "jax":
    # Compiling is what takes JAX its time.
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
else:
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

import keras
import numpy as np

from keras_deeplab import data
from keras_deeplab.training.distribution import distributed

sys.path.insert(0, str(Path(__file__).parent))
from test_training_trainer import run, tiny


def arrays(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.weights]


def main():
    source = data.load("synthetic", size=32, num_examples=12)
    validation = data.load("synthetic", split="val", size=32, num_examples=4)
    options = {"steps": 20, "batch_size": 4, "ema_momentum": 0.9, "checkpoint_every": 5}
    options |= {"validation": validation, "validation_every": 10}
    with tempfile.TemporaryDirectory() as folder:
        one = tiny(dropout=0.0)
        expected = run(one, source, f"{folder}/one", **options)
        with distributed() as devices:
            two = tiny(dropout=0.0)
            found = run(two, source, f"{folder}/two", recompute=True, **options)
            refused = ""
            try:
                run(tiny(), source, f"{folder}/three", batch_size=3)
            except ValueError as error:
                refused = str(error)
        again = keras.saving.load_model(found["last"])
        histories = [result["history"] for result in (expected, found)]
        losses = [[record["loss"] for record in history] for history in histories]
        scores = [[record["validation_mean_iou"] for record in history[1::2]] for history in histories]
        print(
            json.dumps(
                {
                    "devices": devices,
                    "weights": max(float(np.abs(a - b).max()) for a, b in zip(arrays(one), arrays(two), strict=True)),
                    "losses": float(np.abs(np.subtract(*losses)).max()),
                    "scores": float(np.abs(np.subtract(*scores)).max()),
                    "synchronized": [getattr(layer, "synchronized", False) for layer in again.layers].count(True),
                    "refused": refused,
                }
            )
        )


if __name__ == "__main__":
    main()
