"""A model that TensorFlow Serving runs, by way of a `keras_deeplab.serving.Client`."""

from typing import Any

import numpy as np

from keras_deeplab.inference.runtimes.base import LABELS, LOGITS, Runtime


class ServerRuntime(Runtime):
    """A client of one model: its labels, and its logits where the server has the model's record.

    Args:
        client: `keras_deeplab.serving.Client`.
    """

    def __init__(self, client: Any) -> None:
        self.name = f"the model {client.model!r} on {client.server}"
        self.program = f"the server {client.server}"
        self._client = client
        known = client.spec
        self.spec = None if known is None else known.model
        self.channels = 3 if self.spec is None else self.spec.channels
        # Only the record tells what the numbers of another signature mean.
        self.returns = LABELS if self.spec is None else LOGITS
        if known is not None and known.input_sizes:
            self.sizes = known.input_sizes

    def scores(self, images: np.ndarray) -> Any:
        if self.returns == LABELS:
            return self._answer(images, LABELS)
        return np.asarray(self._answer(images, LOGITS, LOGITS), np.float32)

    def labels(self, images: np.ndarray, height: int, width: int, threshold: float | None) -> Any:
        if threshold != 0.5:  # what the server's labels are decided at
            return None
        labels = self._answer(images, LABELS)[:, :height, :width]
        if self.spec is None:
            return labels
        return labels.astype(self.spec.label_dtype)  # REST has numbers of one type

    def _answer(self, images, output, *signature):
        return np.asarray(self._client.output(output, {"images": np.rint(images).astype(np.uint8)}, *signature))
