"""Reads TFLite files with MediaPipe Tasks' ImageSegmenter, in a process that needs mediapipe and NumPy alone.

    python mediapipe_reader.py IMAGES.npz FOLDER FILE.tflite ...

IMAGES.npz holds images (H, W, 3), uint8 RGB. Of each file FOLDER gets NAME.npz: `labels`, the names of the classes, and
for the image `KEY` its category mask, `mask KEY` (H, W), uint8, and its confidence masks, `scores KEY` (classes, H, W);
or `error`, why it doesn't open. With `--masks` confidence masks are left out.
"""

import sys
from pathlib import Path

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision


def read(path, images, scores):
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=str(path)), output_category_mask=True, output_confidence_masks=scores
    )
    try:
        segmenter = vision.ImageSegmenter.create_from_options(options)
    except (RuntimeError, ValueError, OSError) as error:
        return {"error": np.array(str(error))}
    found = {"labels": np.array(segmenter.labels, dtype=str)}
    with segmenter:
        for key, image in images.items():
            pixels = np.ascontiguousarray(image)
            result = segmenter.segment(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels))
            found[f"mask {key}"] = result.category_mask.numpy_view().reshape(image.shape[:2]).copy()
            if scores:
                masks = [mask.numpy_view().reshape(image.shape[:2]).copy() for mask in result.confidence_masks]
                found[f"scores {key}"] = np.stack(masks)
    return found


def main(arguments):
    scores = "--masks" not in arguments
    images, folder, *files = [argument for argument in arguments if argument != "--masks"]
    with np.load(images) as stored:
        pictures = {key: stored[key] for key in stored.files}
    for file in files:
        np.savez(Path(folder) / f"{Path(file).stem}.npz", **read(file, pictures, scores))


if __name__ == "__main__":
    main(sys.argv[1:])
