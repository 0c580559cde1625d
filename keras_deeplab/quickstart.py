"""The whole road once, on drawn images: train, evaluate, export, segment. No download, a few minutes on two cores."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    import keras
    import numpy as np

    from keras_deeplab.data.source import Source
    from keras_deeplab.inference.predictor import Predictor

STEPS = 400
SIZE = 129  # 8 * output stride + 1
IMAGES = {"train": 2000, "val": 100}
BATCH_SIZE = 8


def network(source: "Source") -> "keras.Model":
    """The model that is trained: DeepLab v3+ on a MobileNetV2 of half the width, from nothing, with 64 filters."""
    import keras_deeplab
    from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2

    return keras_deeplab.DeepLabV3Plus(
        mobilenet_v2(alpha=0.5),
        num_classes=source.num_classes,
        filters=64,
        output_stride=16,
        classes=source.classes_spec,
    )


def quickstart(
    output: "str | PathLike[str]" = "quickstart", steps: int = STEPS, log: "Callable[[str], Any]" = print
) -> dict[str, Any]:
    """Trains a small DeepLab v3+ on the synthetic data set and leaves everything it makes in the folder `output`.

    Args:
        output: folder; `run/` (checkpoints), `saved_model/1/`, `model.tflite` (full int8), `overlays/` and
            `overlays.png` go there. A run that was stopped is continued.
        steps: training steps.
        log: called with each line of text to print.

    Returns:
        dict from "keras", "saved_model", "tflite", "overlays" to paths, and "miou", "tflite_miou" to numbers.

    Raises:
        ValueError: the int8 file lost more than 5 points of mean IoU; it is kept as `model.rejected.tflite`.
    """
    import keras

    import keras_deeplab
    from keras_deeplab import data
    from keras_deeplab.export.saved_model import export_saved_model
    from keras_deeplab.export.tflite import export_verified
    from keras_deeplab.inference.evaluation import evaluate
    from keras_deeplab.inference.predictor import predictor
    from keras_deeplab.training.trainer import train

    began = time.monotonic()
    output = Path(output)
    training = data.load("synthetic", split="train", num_examples=IMAGES["train"], size=SIZE)
    validation = data.load("synthetic", split="val", num_examples=IMAGES["val"], size=SIZE)

    log("1/5  training DeepLab v3+ on MobileNetV2 (half width) from nothing, on images drawn on the fly")
    keras.utils.set_random_seed(0)
    result = train(
        network(training),
        training,
        output / "run",
        steps=steps,
        crop_size=SIZE,
        batch_size=BATCH_SIZE,
        optimizer="adam",
        learning_rate=3e-3,
        warmup_steps=min(20, steps - 1),
        scale_range=(0.75, 1.5),
        validation=validation,
        validation_every=max(1, steps // 2),
        log=log,
    )

    log("2/5  evaluating")
    model = keras_deeplab.load(result["last"])
    matrix = evaluate(predictor(model), validation)
    log(matrix.table(validation.classes))

    log("3/5  exporting a SavedModel")
    saved_model = export_saved_model(model, output / "saved_model" / "1", overwrite=True)

    log("4/5  exporting full int8 TFLite, calibrated on training images")
    tflite, verification = export_verified(
        model,
        output / "model.tflite",
        validation,
        max_miou_drop=0.05,
        precision="int8",
        input_size=SIZE,
        calibration=training,
    )
    log(str(verification))

    log("5/5  segmenting validation images with the int8 file")
    overlays = _write_overlays(predictor(tflite.path), validation, output / "overlays")
    sheet = _write_sheet(overlays, output / "overlays.png")
    log(f"Done in {time.monotonic() - began:.0f} seconds:")
    for name, path in (
        ("Keras model", result["last"]),
        ("SavedModel", saved_model),
        ("int8 TFLite", tflite.path),
        ("overlays", sheet),
    ):
        log(f"  {name:12} {path}")
    return {
        "keras": result["last"],
        "saved_model": saved_model,
        "tflite": tflite.path,
        "overlays": sheet,
        "miou": matrix.mean_iou,
        "tflite_miou": verification.file_miou,
    }


def _write_overlays(predict: "Predictor", source: "Source", folder: Path, count: int = 8) -> list["np.ndarray"]:
    """Writes image, truth and prediction of the first samples side by side; returns the pictures."""
    import numpy as np

    from keras_deeplab._helpers.files import write_whole
    from keras_deeplab.inference.answers import overlay
    from keras_deeplab.inference.files import encode_png

    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for sample in source.dataset().take(count).as_numpy_iterator():
        image = sample["image"]
        truth = overlay(image, sample["label"], source.palette, untouched=[0])
        predicted = overlay(image, predict(image), source.palette, untouched=[0])
        picture = np.concatenate([image, truth, predicted], axis=1)
        write_whole(folder / f"{sample['name'].decode()}.png", encode_png(picture))
        pictures.append(picture)
    return pictures


def _write_sheet(pictures: list["np.ndarray"], path: Path, columns: int = 2) -> Path:
    import numpy as np

    from keras_deeplab._helpers.files import write_whole
    from keras_deeplab.inference.files import encode_png

    rows = [np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)]
    write_whole(path, encode_png(np.concatenate(rows)))
    return path
