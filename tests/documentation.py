"""The pages of the documentation, and a folder with small stand-ins for what a reader of them has."""

import shutil
from pathlib import Path

import numpy as np
from tiny_backbone import tiny

from keras_deeplab._helpers.opencv import cv2

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def named(pages):
    """The pages' names, for ids of tests."""
    return [page.relative_to(ROOT).as_posix() for page in pages]


def small_model(classes=("background", "leaf", "weed")):
    import keras_deeplab

    return keras_deeplab.DeepLabV3(tiny(), num_classes=len(classes), classes=classes, filters=8, head="image_pooling")


def write_data_set(path, classes=("background", "leaf", "weed"), names="abcdef"):
    """A folder of images and masks of the first three classes, which tell each other by their grey."""
    random = np.random.default_rng(1)
    for part in ("images", "masks"):
        (path / part).mkdir(parents=True)
    (path / "classes.txt").write_text("\n".join(classes))
    for name in names:
        mask = np.repeat(np.repeat(random.integers(0, 3, (6, 7), "uint8"), 8, 0), 8, 1)
        cv2.imwrite(str(path / "masks" / f"{name}.png"), mask)
        cv2.imwrite(str(path / "images" / f"{name}.png"), np.repeat(mask[..., None], 3, 2) * 100)


def write_folder(path):
    """Fills the folder: photographs with masks, files of models."""
    import keras_deeplab

    for data_set in ("photographs", "mine", "export"):
        write_data_set(path / data_set)
    shutil.copy(path / "mine" / "images" / "a.png", path / "photo.png")
    cv2.imwrite(str(path / "scene.tif"), np.random.default_rng(2).integers(0, 256, (250, 230, 3), "uint8"))
    model = small_model()
    (path / "runs" / "mine").mkdir(parents=True)
    for name in ("model.keras", "best.keras", "old.keras", "runs/mine/best.keras"):
        model.save(path / name)
    keras_deeplab.export_saved_model(model, path / "savedmodels" / "mine" / "1")
