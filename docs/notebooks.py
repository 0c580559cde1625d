"""Writes the notebooks into docs/notebooks: `python docs/notebooks.py`. Their cells are here; tests run them."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "notebooks"

INSTALL = [
    "## Installation\n\nWhere it is installed already, leave this out. `REPOSITORY` is a clone of the repository, a "
    "wheel of it, or `git+` and its address.",
    'REPOSITORY = "."\n%pip install -q {REPOSITORY}',
]

# The notebooks by their names: text and code in turn.
NOTEBOOKS = {
    "tutorial": [
        "# From photographs to an int8 file\n\nThe road of the page *Your own photographs in ten minutes*, on "
        "photographs that are drawn here. A GPU makes it faster and is not needed.",
        *INSTALL,
        "## Photographs and masks\n\n`images/NAME.jpg`, `masks/NAME.png` with one number a pixel, `classes.txt`. Put "
        "your own in their place.",
        """from pathlib import Path

import cv2

from keras_deeplab import data

drawn = data.load("synthetic", split="train", num_examples=40, size=129)
folder = Path("photographs")
for part in ("images", "masks"):
    (folder / part).mkdir(parents=True, exist_ok=True)
(folder / "classes.txt").write_text("\\n".join(drawn.classes))
for index in range(drawn.num_examples):
    image, label, name = drawn.sample(index)
    cv2.imwrite(str(folder / "images" / f"{name}.jpg"), image[..., ::-1])
    cv2.imwrite(str(folder / "masks" / f"{name}.png"), label)""",
        "## What is wrong with them\n\nWhat is found stands with the option that mends it.",
        "!keras-deeplab check-data photographs --html check.html",
        '## Train\n\nThe same cell goes on where it was stopped. `weights="imagenet"` of the backbone starts better.',
        """import keras_deeplab
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2

source, validation = (data.load(folder, split=split) for split in ("train", "val"))
model = keras_deeplab.DeepLabV3Plus(
    mobilenet_v2(alpha=0.5), num_classes=source.num_classes, classes=source.classes_spec, filters=64
)
result = keras_deeplab.train(
    model,
    source,
    "runs/mine",
    validation=validation,
    steps=300,
    validation_every=100,
    crop_size=129,
    batch_size=8,
    optimizer="adam",
    learning_rate=3e-3,
)""",
        "## Evaluate and predict",
        """!keras-deeplab evaluate runs/mine/last.keras photographs
!keras-deeplab predict runs/mine/last.keras photographs/images --output-dir predictions""",
        """predict = keras_deeplab.predictor("runs/mine/last.keras")
image = validation.sample(0)[0]
labels = predict(image)  # (H, W)
predict.answer(image).confidence.mean()""",
        "## Take it elsewhere\n\nThe table tells how many labels the int8 file keeps.",
        """!keras-deeplab export-tflite runs/mine/last.keras mine.tflite --precision int8 --input-size 129 \\
    --calibration photographs""",
    ],
    "checkpoint": [
        "# An old checkpoint in Keras\n\nA checkpoint of another package becomes a Keras model with the same outputs. "
        "Here one is made in the form of DeepLabV3Plus-Pytorch first; put the path of your own in its place.",
        *INSTALL,
        """import keras_deeplab

there = keras_deeplab.build("vainf_deeplabv3plus_mobilenet", num_classes=4)
keras_deeplab.export_weights(there, "theirs.pth", "vainf")""",
        "## What is in it",
        "!keras-deeplab inspect theirs.pth",
        "## Load it\n\nThe file tells whose it is and which network. The model is a functional `keras.Model`.",
        """import numpy as np

model = keras_deeplab.load("theirs.pth")
images = np.random.default_rng(0).integers(0, 256, (1, 65, 65, 3)).astype("float32")
np.abs(np.asarray(model(images)) - np.asarray(there(images))).max()""",
        "## Keep it\n\nA `.keras` file holds the model with its record, and goes everywhere that the package goes.",
        """model.save("ours.keras")
labels = keras_deeplab.predictor("ours.keras")(images[0])
labels.shape""",
    ],
}


def notebook(cells: list[str]) -> dict:
    """Cells, text where they begin with a heading and code elsewhere, as the JSON of a notebook (format 4.5)."""
    written = []
    for number, cell in enumerate(cells):
        common = {"id": f"cell-{number}", "metadata": {}, "source": cell.splitlines(keepends=True)}
        if cell.startswith("#"):
            written.append({"cell_type": "markdown", **common})
        else:
            written.append({"cell_type": "code", "execution_count": None, "outputs": [], **common})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": written, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, cells in NOTEBOOKS.items():
        text = json.dumps(notebook(cells), indent=1, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.ipynb").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
