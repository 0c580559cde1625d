"""A program: one of two hosts that train together, or the same training alone; its weights and last record to a file.

[KERAS_BACKEND=jax] python tests/hosts_training.py FOLDER STEPS PORT INDEX    (INDEX: 0, 1, or alone)
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path


def main(folder, steps, port, index):
    if index != "alone":
        addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{int(port) + 1}"]
        task = {"type": "worker", "index": int(index)}
        os.environ |= {
            "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task}),
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_PROCESS_ID": index,
        }
    import keras
    import numpy as np

    from keras_deeplab.training.distribution import distributed

    with distributed(hosts=True) if index != "alone" else nullcontext(1) as devices:
        sys.path.insert(0, str(Path(__file__).parent))
        from test_training_trainer import run, tiny

        from keras_deeplab import data

        told = []
        model = tiny(dropout=0.0)
        result = run(
            model,
            data.load("synthetic", size=32, num_examples=12),
            Path(folder) / "run",
            steps=int(steps),
            batch_size=4,
            ema_momentum=0.9,
            checkpoint_every=5,
            learning_rate=float(os.environ.get("RATE", "0.05")),
            validation=data.load("synthetic", split="val", size=32, num_examples=4),
            validation_every=10,
            log=told.append,
        )
    np.savez(
        Path(folder) / f"{index}.npz",
        *[keras.ops.convert_to_numpy(variable) for variable in model.weights],
        devices=devices,
        loss=result["history"][-1]["loss"],
        score=result["history"][-1]["validation_mean_iou"],
        told=len(told),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
