"""Trains on a data set with batches of 1, 2, 4 and 8, by each way to treat batch normalisation, and prints a line with
the validation's scores for each: of every seed the last ones, and their mean.

    python benchmarks/small_batches.py DATA --recipe mobile --backbone-weights FILE --seeds 0,1,2
    python benchmarks/small_batches.py DATA --backbone-weights FILE --crop-size 64x96 --steps 240

Two ways are made here, as the package has neither: "group", the head with group normalisation in place of batch
normalisation and the backbone's as by default; "recalibrated", trained by the statistics of each batch, then all layers
get those of 32 crops before the scores.

With a recipe everything else is its own, as of `keras-deeplab train DATA --recipe NAME --batch-size N`; without one a
run has so many steps at every batch size, by SGD.
"""

import argparse
import tempfile
import time

import keras
import numpy as np

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.options import read_size
from keras_deeplab.specs.model import with_spec
from keras_deeplab.training import batch_norm, recipe, trainer
from keras_deeplab.training.settings import TrainSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--backbone-weights")
    parser.add_argument("--recipe", help="one of those that adapt, such as mobile")
    parser.add_argument("--mask-encoding", default="auto")
    parser.add_argument("--crop-size", type=read_size)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-sizes", default="1,2,4,8")
    parser.add_argument("--batch-norms", default="default", help="default, batch, calibrated, frozen, group, ...")
    parser.add_argument("--head-multiplier", type=float)
    parser.add_argument("--seeds", default="0")
    arguments = parser.parse_args()
    source, validation = (
        data.load(arguments.data, split, mask_encoding=arguments.mask_encoding) for split in ("train", "val")
    )
    given = {name: getattr(arguments, name) for name in ("crop_size", "steps", "head_multiplier")}
    if not arguments.recipe:
        given = {name: value or default for (name, value), default in zip(given.items(), (65, 240, 10.0), strict=True)}
    given = {name: value for name, value in given.items() if value is not None}
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print("| batch | batch norm | training mIoU | validation mIoU | IoU of the last class | their mean | seconds |")
    print("|---|---|---|---|---|---|---|")
    for size in map(int, arguments.batch_sizes.split(",")):
        for kind in arguments.batch_norms.split(","):
            ends = [one(arguments, source, validation, given, size, kind, seed) for seed in seeds]
            columns = [", ".join(f"{value:.3f}" for value in column) for column in np.transpose(ends)[:3]]
            *_, last, seconds = np.mean(ends, 0)
            print(f"| {size} | {kind} | {' | '.join(columns)} | {last:.3f} | {seconds:.0f} |", flush=True)


def one(arguments, source, validation, given, size, kind, seed):
    """Scores of a run's end: on its crops, on the validation, of the last class there; and its seconds."""
    keras.utils.set_random_seed(seed)
    model = keras_deeplab.DeepLabV3Plus(
        arguments.backbone, num_classes=source.num_classes, backbone_weights=arguments.backbone_weights
    )
    if kind == "group":
        model = with_group_normalization(model)
    told = {"default": None, "group": "calibrated", "recalibrated": "batch"}.get(kind, kind)
    options = given | {"batch_size": size, "seed": seed} | ({} if told is None else {"batch_norm": told})
    if kind == "group":
        options["global_clipnorm"] = 1.0  # as by default
    settings = recipe(arguments.recipe).settings_for(source, **options) if arguments.recipe else None
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = keras_deeplab.train(
            model,
            source,
            folder,
            validation=validation,
            settings=settings,
            progress=False,
            log=lambda line: None,
            **(options if settings is None else {}),
        )
    last = result["history"][-1]
    matrix = None
    if kind == "recalibrated":
        recalibrate(model, source, TrainSettings.of(**options) if settings is None else settings)
        matrix = keras_deeplab.evaluate(model, validation, progress=False)
    mean_iou = last["validation_mean_iou"] if matrix is None else matrix.mean_iou
    iou = last["validation_iou"][-1] if matrix is None else matrix.iou[-1]
    return last["mean_iou"], mean_iou, iou, time.monotonic() - began


class GroupNormalization(keras.layers.GroupNormalization):
    """Keras's, called as batch normalisation is."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs)


def with_group_normalization(model):
    """The same model, but for group normalisation in its head."""
    head = set(model.spec.head)

    def other(layer):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name in head:
            groups = next(count for count in (32, 16, 8, 4, 2, 1) if layer.gamma.shape[0] % count == 0)
            return GroupNormalization(groups, epsilon=1e-5, name=layer.name)
        return type(layer).from_config(layer.get_config())

    made = keras.models.clone_model(model, clone_function=other)
    for layer in model.layers:
        if not (isinstance(layer, keras.layers.BatchNormalization) and layer.name in head):
            made.get_layer(layer.name).set_weights(layer.get_weights())
    return with_spec(made, model.spec)


def recalibrate(model, source, settings):
    """Gives all batch normalisation the statistics of 32 training crops."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(keras.ops.zeros_like(layer.moving_mean))
            layer.moving_variance.assign(keras.ops.ones_like(layer.moving_variance))
    settings = settings.resolved(source.num_examples).with_options(batch_norm="calibrated", batch_size=8)
    batch_norm.prepare(model, settings)
    shown = trainer.batches(source, settings).take(4).as_numpy_iterator()
    batch_norm.calibrate(model, (images for images, _ in shown))


if __name__ == "__main__":
    main()
