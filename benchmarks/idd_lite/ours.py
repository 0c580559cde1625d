"""Trains this package's side: DeepLab v3+ on MobileNetV2 from the same ImageNet weights, by the recipe `mobile`.

    python benchmarks/idd_lite/ours.py IDD_LITE MOBILENET_V2_NOTOP.weights.h5 RUN_DIR ours.jsonl --steps 1080

The recipe as it is, but for the number and size of the crops, their scales, and the number of steps, which the
comparison sets alike on both sides (see peer.py). `--set name=value` tries another setting of the recipe.
Writes one JSON line a validation: step, processor seconds of the training so far (validation left out; reading and
decoding the files is in it), mean IoU, IoU of each class.
"""

import argparse
import json
import resource
from pathlib import Path
from typing import Any

import keras

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.options import read_size
from keras_deeplab.training.recipes import RECIPES


class Spent(keras.callbacks.Callback):
    """Processor seconds of the process, but for what passes between two steps while a validation runs."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every, self.seconds, self.steps, self.left = every, 0.0, 0, _processor_seconds()
        self.at: dict[int, float] = {}

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps % self.every == 0:
            self.left = _processor_seconds()

    def on_train_batch_end(self, batch, logs=None):
        now = _processor_seconds()
        self.seconds += now - self.left
        self.left, self.steps = now, self.steps + 1
        self.at[self.steps] = self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("backbone_weights")
    parser.add_argument("run_dir")
    parser.add_argument("output")
    parser.add_argument("--recipe", default="mobile")
    parser.add_argument("--steps", type=int, default=1080)
    parser.add_argument("--every", type=int, default=360)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop-size", type=read_size, default=(225, 321))
    parser.add_argument("--scale-range", type=_range, default=(0.75, 1.5))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    train, val = (data.load(arguments.data, split) for split in ("train", "val"))
    keras.utils.set_random_seed(arguments.seed)
    given = {name: _value(text) for name, _, text in (each.partition("=") for each in arguments.set)}
    settings = RECIPES[arguments.recipe].settings_for(
        train,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        crop_size=arguments.crop_size,
        scale_range=arguments.scale_range,
        seed=arguments.seed,
        validation_every=arguments.every,
        **given,
    )
    network = dict(RECIPES[arguments.recipe].network)
    model = keras_deeplab.DeepLabV3Plus(
        network["backbone"], num_classes=train.num_classes, backbone_weights=arguments.backbone_weights
    )
    spent = Spent(arguments.every)
    result = keras_deeplab.train(
        model, train, arguments.run_dir, validation=val, settings=settings, callbacks=[spent], progress=False
    )
    history = [row for row in result["history"] if row.get("validation_mean_iou") is not None]
    whole = bool(history) and spent.steps == history[-1]["step"]
    lines = [
        {
            "step": row["step"],
            # Of a run that goes on nothing tells what its beginning took.
            "processor_seconds": round(spent.at[row["step"]], 1) if whole else None,
            "mean_iou": row["validation_mean_iou"],
            "iou": row["validation_iou"],
            "loss": row["loss"],
        }
        for row in history
    ]
    Path(arguments.output).write_text("".join(json.dumps(line) + "\n" for line in lines))
    print("".join(f"{line['step']}: {line['mean_iou']:.4f}\n" for line in lines))


def _range(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
