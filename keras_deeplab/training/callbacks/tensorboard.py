"""A training in TensorBoard: scores as curves, and pictures of what the model predicts.

TensorFlow itself writes the files, also while Keras runs on JAX; TensorBoard, an extra, is only needed to look at them.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_deeplab.data.source import Source
from keras_deeplab.inference.files import encode_png
from keras_deeplab.training.callbacks.showing import Panels, with_class_scores


class TensorBoardPanels(keras.callbacks.Callback):
    """Writes the numbers in the logs of every epoch, and pictures of some images, for `tensorboard --logdir LOG_DIR`.

    | tag | what |
    |---|---|
    | `loss`, `mean_iou`, ... | the numbers in the logs |
    | `validation/loss`, `validation/mean_iou`, ... | those that a validation put there |
    | `validation/iou/NAME` | of each class, from the callback `Validation` before this one, or a metric `MeanIoU` |
    | `learning_rate` | of the last step |
    | `images/NAME` | image, truth and prediction beside one another, after each validation |

    Steps are the optimizer's, so that a training that goes on after a kill goes on in the same curves.

    Args:
        log_dir: folder for its files; made if needed.
        source: of images to show, and of the classes' names; None for no images.
        pictures: how many images.
        predict: function from an image uint8 (H, W, channels) to labels (H, W); None for the model's own.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        source: Source | None = None,
        *,
        pictures: int = 4,
        predict: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.log_dir, self.source = Path(log_dir).expanduser(), source
        self.panels = Panels(source, pictures, predict) if source is not None and pictures else None
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        model = self.model
        told = with_class_scores(model, logs or {})
        told.setdefault("learning_rate", float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
        pictures = []
        if self.panels is not None and any(name.startswith("val_") for name in told):
            pictures = self.panels.drawn(model)
        self._write(int(model.optimizer.iterations), self._numbers(told), pictures)

    def on_train_end(self, logs: Any = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _numbers(self, logs: dict[str, Any]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, value in logs.items():
            tag = f"validation/{name[4:]}" if name.startswith("val_") else name
            if isinstance(value, list):
                names = self.source.classes if self.source is not None else []
                names = names if len(names) == len(value) else [f"class {index}" for index in range(len(value))]
                found |= {f"{tag}/{each}": number for each, number in zip(names, value, strict=True)}
            else:
                found[tag] = value
        return {tag: float(value) for tag, value in found.items() if value is not None and np.isfinite(value)}

    def _write(self, step: int, numbers: dict[str, float], pictures: list[tuple[np.ndarray, str]]) -> None:
        import tensorflow as tf

        # tf.summary.scalar and image are TensorBoard's own; the message that they write is TensorFlow's.
        kind = tf.compat.v1.Summary
        values = [kind.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        for picture, name in pictures:
            height, width = picture.shape[:2]
            image = kind.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_png(picture))
            values.append(kind.Value(tag=f"images/{name}", image=image))
        with self._writer.as_default():
            tf.summary.experimental.write_raw_pb(kind(value=values).SerializeToString(), step=step)
        self._writer.flush()
