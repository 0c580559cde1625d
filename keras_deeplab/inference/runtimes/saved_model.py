"""A SavedModel folder, run by TensorFlow without Keras."""

from typing import Any

import numpy as np

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.inference.runtimes import operators
from keras_deeplab.inference.runtimes.base import LABELS, LOGITS, PROBABILITIES, Runtime, check_images, spec_of_file
from keras_deeplab.metadata import saved_model as metadata

FILE = "saved_model.pb"


def folder_of(path: Any) -> Any:
    """The SavedModel that a folder is, or the highest of the numbered versions it holds, or None."""
    if (path / FILE).is_file():
        return path
    if not path.is_dir():
        return None
    versions = [sub for sub in path.iterdir() if sub.name.isdigit() and (sub / FILE).is_file()]
    return max(versions, key=lambda sub: int(sub.name), default=None)


class SavedModelRuntime(Runtime):
    """The signature of a SavedModel that gives scores, beside `serving_default`, which mostly gives labels.

    Args:
        path: the folder that holds saved_model.pb.
        safe_mode: whether one with operators that reach files, the network or Python is refused; they run when it is
            loaded, or called.

    Raises:
        ValueError: there is no signature from images to scores or labels; it is damaged; it has such operators.
    """

    program = "tensorflow"

    def __init__(self, path: Any, safe_mode: bool = True) -> None:
        import tensorflow as tf

        self.name = f"the SavedModel {path}"
        if safe_mode:
            try:
                found = operators.outside_of_saved_model(read_regular(path / FILE))
            except ValueError as error:
                raise ValueError(f"{self.name} can't be read: {error}") from error
            operators.refuse(self.name, found)
        try:
            self._loaded = tf.saved_model.load(str(path))  # outlives its functions, which hold variables weakly
        except Exception as error:  # of damaged ones TensorFlow raises nearly anything
            raise ValueError(f"{self.name} can't be loaded: {type(error).__name__}: {str(error)[:2000]}") from error
        signatures = self._loaded.signatures
        if "serving_default" not in signatures:
            raise ValueError(
                f"{self.name} has no signature 'serving_default', only {sorted(signatures)}: export it with "
                "keras-deeplab export-saved-model"
            )
        default = signatures["serving_default"]
        inputs = default.structured_input_signature[1]
        spec = next(iter(inputs.values()))
        if len(inputs) != 1 or spec.shape.rank != 4 or not (spec.dtype.is_floating or spec.dtype == tf.uint8):
            raise ValueError(f"{self.name} takes {inputs}; expected one input of images (B, H, W, 3), uint8 or float")
        (self._input,) = inputs
        self._images = spec
        self.channels = check_images(spec.shape.as_list(), self.name)
        own = tuple(spec.shape.as_list()[1:3])
        self.sizes = () if own == (None, None) else (own,)
        # The default signature where it has scores itself, else the one that is named after them.
        outputs = default.structured_outputs
        self._default = (default, self._output(outputs, (LABELS, LOGITS, PROBABILITIES)))
        scoring = self._default
        for name in (LOGITS, PROBABILITIES):
            if name in signatures and self._default[1] == LABELS:
                scoring = (signatures[name], self._output(signatures[name].structured_outputs, (name,)))
                break
        self._scoring = scoring
        shape = scoring[0].structured_outputs[scoring[1]].shape.as_list()
        known = metadata.read_spec(path)
        self.spec, self.returns = spec_of_file(known, shape, self.channels, self.name)
        if scoring[1] in (LOGITS, PROBABILITIES):
            self.returns = scoring[1]

    def _output(self, outputs, wanted):
        found = next((name for name in wanted if name in outputs), None)
        if found is None:
            if len(outputs) != 1:
                raise ValueError(f"{self.name} returns {sorted(outputs)}; expected 'labels' or 'logits' among them")
            (found,) = outputs
        return found

    def scores(self, images: np.ndarray) -> Any:
        return self._called(*self._scoring, images)

    def labels(self, images: np.ndarray, height: int, width: int, threshold: float | None) -> Any:
        # Decided at a probability of one half, which is what the file was made for.
        if self._default[1] != LABELS or threshold != 0.5:
            return None
        return self._called(*self._default, images)[:, :height, :width]

    def _called(self, function, output, images):
        import tensorflow as tf

        spec = self._images
        fed = images if spec.dtype.is_floating else np.rint(images).astype(np.uint8)
        groups = [fed[index : index + 1] for index in range(len(fed))] if spec.shape[0] == 1 else [fed]
        parts = [function(**{self._input: tf.constant(group, spec.dtype)})[output].numpy() for group in groups]
        return np.concatenate(parts)
