"""From images to answers, in one call: Keras models, checkpoints, SavedModels, TFLite and ONNX files, servers."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab.data.channels import scaled
from keras_deeplab.inference import answers
from keras_deeplab.inference.answers import Answer
from keras_deeplab.inference.composition import composed
from keras_deeplab.inference.runtimes import FASTEST, RUNTIMES, Runtime, installed, open_file, runtime_of
from keras_deeplab.inference.runtimes.base import LABELS
from keras_deeplab.inference.runtimes.keras_model import KerasRuntime
from keras_deeplab.inference.settings import InferenceOptions
from keras_deeplab.inference.strategies import STRATEGIES, Strategy, Tiles, WholeImage, told
from keras_deeplab.options import takes
from keras_deeplab.serving.client import Client
from keras_deeplab.specs import ModelSpec

_log = logging.getLogger("keras_deeplab")


class Predictor:
    """Calls with images (H, W, channels) or (B, H, W, channels) return labels (H, W) or (B, H, W).

    Images are uint8 or float in 0..255, RGB where they have three channels; or integers of more bits, where the
    model's record tells which two of them are 0 and 255 (`spec.image_range`), as files are read. Labels are uint8, or
    int32 where there are more than 256 classes: the class of the greatest score; of a binary model 1 where its
    probability is above `threshold`; of a multi-label model the likeliest class where that is above it, else the
    ignored label.

    Of a Keras model and an image above `keras_deeplab._helpers.limits.ONE_PIECE_PIXELS` the same labels, but for the
    rounding of scores, are made by tiles, in less memory; a call for probabilities puts it to the model in one piece.

    `predictor` makes them; put together by hand they are a runtime, a strategy and a threshold.

    Args:
        runtime: maps images to scores, a `keras_deeplab.inference.runtimes.Runtime`.
        strategy: how an image is put to it, of `keras_deeplab.inference.strategies`; None for the whole image.
        threshold: of the probabilities of binary and multi-label models.
        settings: the options that it was made with, None for one that was put together by hand.

    Attributes:
        spec: the model's record (`keras_deeplab.specs.ModelSpec`); None for a file of labels that has none.
        input_size: (height, width) that images are padded to at the bottom and right with 127.5, or None.
        channels: of its images.
        name: what messages call the model.
        program: what computes it, such as `"tensorflow"`, `"litert"`, `"onnxruntime"` or `"openvino"`.
    """

    def __init__(
        self,
        runtime: Runtime,
        strategy: Strategy | None = None,
        threshold: float = 0.5,
        settings: InferenceOptions | None = None,
    ) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0.0 < threshold < 1.0:
            raise ValueError(f"threshold must be a probability between 0 and 1, both excluded; received {threshold!r}")
        self.runtime = runtime
        self.strategy = WholeImage(runtime) if strategy is None else strategy
        self.threshold = float(threshold)
        self.settings = settings
        self.spec: ModelSpec | None = runtime.spec
        self.name = runtime.name
        self.program = runtime.program
        self.channels = runtime.channels
        # What derives from the whole image sees it another way, which only scores can be brought back from.
        self._whole = type(self.strategy) is WholeImage
        self._tiles: Tiles | None = None
        if runtime.returns == LABELS and not self._whole:
            raise ValueError(
                f"{self.name} returns labels alone, and the strategy {type(self.strategy).__name__} needs scores: "
                "export it with logits or probabilities"
            )
        if threshold != 0.5 and runtime.returns == LABELS:
            raise ValueError(
                f"threshold can't be chosen for {self.name}, which returns labels: export it with logits or "
                "probabilities"
            )

    @property
    def input_size(self) -> tuple[int, int] | None:
        return self.strategy.input_size

    @property
    def protocol(self) -> str:
        """How an image is put to the model, in a line that stands beside every figure."""
        spec = self.spec
        parts = list(told(self.strategy))
        if spec is not None and spec.output_stride is not None:
            parts.append(f"output stride {spec.output_stride}")
        if spec is not None and not spec.exclusive:
            parts.append(f"threshold {self.threshold:g}")
        return ", ".join(parts)

    @property
    def num_labels(self) -> int | None:
        """How many labels there are, None where a file that returns labels doesn't tell."""
        return None if self.spec is None else self.spec.num_labels

    def __call__(self, images: np.ndarray) -> np.ndarray:
        # A strategy that makes labels itself, so that it needn't hold all scores, takes images as they are.
        by_itself = getattr(self.strategy, "labels", None) or self._by_tiles(np.shape(images))
        if by_itself is not None:
            batch, one = self._batch(images, as_float=False)
            labels = by_itself(self.runtime, batch, self.threshold)
            if labels is not None:
                return labels[0] if one else labels
        return self.in_one_piece(images)

    def in_one_piece(self, images: np.ndarray) -> np.ndarray:
        """As a call, but an image of any size is put to the model in one piece: what tiles are compared with."""
        if hasattr(self.strategy, "labels"):  # tiles
            return Predictor(self.runtime, None, self.threshold).in_one_piece(images)
        batch, one = self._batch(images)
        labels = self._labels(batch)
        return labels[0] if one else labels

    def _by_tiles(self, shape):
        """What makes the labels of images of a shape by tiles, where they are the same; None where they are small."""
        height, width = shape[-3:-1] if len(shape) in (3, 4) else (0, 0)
        if not self._whole or self.input_size is not None or height * width <= limits.ONE_PIECE_PIXELS:
            return None
        # Of other files nothing tells how far they see; on other backends nobody has tried it.
        if not isinstance(self.runtime, KerasRuntime) or keras.backend.backend() != "tensorflow":
            return None
        if self._tiles is None:
            self._tiles = Tiles(self.runtime)
        return self._tiles.exact_labels

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Images as above to float32 probabilities (H, W, num_labels) or (B, H, W, num_labels).

        A softmax over the classes; of a binary model those of both labels; of a multi-label one each by itself.

        Raises:
            ValueError: the model gives labels alone.
        """
        batch, one = self._batch(images)
        found, _ = self._scores(batch)
        return found[0] if one else found

    def answer(self, images: np.ndarray) -> Answer:
        """Images as above to an `Answer`: labels, probabilities, masks and confidence, from one run of the model."""
        batch, one = self._batch(images)
        if self.spec is None or self.runtime.returns == LABELS:
            labels = self._labels(batch)
            return Answer(labels[0] if one else labels, None, None, self.spec)
        probabilities, (scores, returns) = self._scores(batch)
        labels, masks = (
            keras.ops.convert_to_numpy(find(scores, self.spec, returns, self.threshold))
            for find in (answers.labels_of, answers.masks_of)
        )
        if one:
            labels, probabilities, masks = labels[0], probabilities[0], masks[0]
        return Answer(labels, probabilities, masks, self.spec)

    def _batch(self, images, as_float=True):
        images = np.asarray(images)
        if images.ndim not in (3, 4) or images.shape[-1] != self.channels or 0 in images.shape:
            shape = f"(H, W, {self.channels}) or (B, H, W, {self.channels})"
            raise ValueError(f"images must have shape {shape}, received {images.shape}")
        if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
            trained = None if self.spec is None else self.spec.image_range
            if trained is None or images.dtype.kind not in "ui":
                raise ValueError(
                    f"images must be uint8 or floating point in 0..255, received dtype {images.dtype}, and the model's "
                    "record has no image_range, which says what other numbers mean: keras_deeplab.with_spec(model, "
                    "image_range=(0, 4095)) gives it one"
                )
            images = scaled(images, trained)
        batch = images if images.ndim == 4 else images[None]
        return np.asarray(batch, np.float32) if as_float else batch, images.ndim == 3

    def _labels(self, batch):
        height, width = batch.shape[1:3]
        if self.runtime.returns == LABELS:
            padded = self.strategy.padded(self.runtime, batch)
            labels = _checked_labels(self.runtime.scores(padded), padded, self.name)[:, :height, :width]
            return labels.astype(np.uint8 if labels.max() < 256 else np.int32)
        if self._whole:
            # The same answer, computed where the scores are.
            padded = self.strategy.padded(self.runtime, batch)
            labels = self.runtime.labels(padded, height, width, self.threshold)
            if labels is not None:
                return labels
        scores, returns = self.strategy(self.runtime, batch)
        return keras.ops.convert_to_numpy(answers.labels_of(scores, self.spec, returns, self.threshold))

    def _scores(self, batch):
        """Float32 probabilities of all labels, and the scores they come from."""
        if self.runtime.returns == LABELS:
            raise ValueError(
                f"{self.name} returns labels alone, so there are no probabilities: export it with logits or "
                "probabilities, or use the model that it was exported from"
            )
        scores, returns = self.strategy(self.runtime, batch)
        found = keras.ops.convert_to_numpy(answers.probabilities_of(scores, self.spec, returns)).astype(np.float32)
        if self.spec.binary:
            found = np.concatenate([1 - found, found], axis=-1)
        return found, (scores, returns)


def _checked_labels(labels, images, name):
    """What a deployed model returned as labels, (B, H, W) or (B, H, W, 1), to (B, H, W)."""
    if labels.ndim == 4 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.shape != images.shape[:3]:
        raise ValueError(
            f"{name} returned an array of shape {labels.shape} for images of shape {images.shape}; expected logits "
            f"(B, h, w, classes), or labels {images.shape[:3]}"
        )
    return labels


@takes(InferenceOptions)
def predictor(
    model_or_path: Any,
    input_size: int | tuple[int, int] | None = None,
    output_stride: int | None = None,
    *,
    strategy: str | Callable[..., Strategy] | None = None,
    input_range: tuple[float, float] | None = None,
    num_threads: int | None = None,
    runtime: str | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    **options: Any,
) -> Predictor:
    """A model or its file to a `Predictor`: images (H, W, 3) in 0..255 to labels (H, W), whatever runs inside.

    Args:
        model_or_path: a `keras.Model` that returns scores; a `keras_deeplab.serving.Client`, for a model on a server; a
            `Runtime`; or the path of
            a `.keras` file; a `.tflite` file (float or quantised, logits or labels out); an `.onnx` file; a SavedModel
            folder, or a folder of numbered versions of one; else a checkpoint that `keras_deeplab.load` reads. A
            `Predictor` is returned as it is.
        strategy: what puts images to the model, in the middle of what the options below ask for: a key of
            `keras_deeplab.inference.strategies.STRATEGIES`, or a function from a runtime and an input size to a
            `Strategy`. None for `"whole"`.
        input_range: (low, high) that 0..255 is mapped to, for TFLite files that don't normalise themselves.
            None means (0, 255); a quantised input that stands for -1..1 or 0..1 then gets the bytes as they are.
        num_threads: threads of the runtime of a `.tflite` or `.onnx` file; None for all cores.
        runtime: what runs such a file: `"litert"` (.tflite), `"onnxruntime"` (.onnx) or `"openvino"` (both). None for
            the first of them that is installed, which is mostly the fastest, and always the same; `"fastest"` has all
            that are installed run it some times first, which takes a second or two. What was taken is the attribute
            `program`, and a line of the log `keras_deeplab`.
        checkpoint: further arguments of `keras_deeplab.load`, for a file that it reads.
        {options}

    Models of a fixed size set `input_size` themselves. What averages scores needs a model that gives them, and
    `output_stride` one whose network is built here.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if an option doesn't apply to this kind of model, or the model is not one of images to labels.
    """
    settings = InferenceOptions.of(input_size=input_size, output_stride=output_stride, **options)
    if isinstance(model_or_path, Predictor):
        given = {name: True for name in settings.overridden()} | {"strategy": strategy is not None}
        _refuse("a Predictor that is already made", given, "give it where the Predictor is made")
        return model_or_path
    opened = _opened(model_or_path, settings, input_range, num_threads, runtime, checkpoint)
    base: Any = WholeImage if strategy is None else strategy
    if isinstance(base, str):
        if base not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, or a function; received {base!r}")
        base = STRATEGIES[base]
    return Predictor(opened, composed(opened, settings, base), settings.threshold, settings)


def _opened(model_or_path, settings, input_range, num_threads, runtime, checkpoint):
    """The `Runtime` of whatever `predictor` takes."""
    size, output_stride = settings.input_size, settings.output_stride
    of_a_file = {"runtime": runtime is not None, "input_range": input_range is not None}
    of_weights = dict.fromkeys(checkpoint or (), True)
    if isinstance(model_or_path, (Runtime, keras.Model, Client)):
        _refuse("a model that is there", of_weights, "give it where the model is loaded")
    if isinstance(model_or_path, Runtime):
        _refuse("a Runtime", of_a_file, "give it where the Runtime is made")
        return _at_its_own(model_or_path, output_stride)
    if isinstance(model_or_path, keras.Model):
        _refuse("a keras.Model", of_a_file, "build or export the model for it")
        return KerasRuntime(_restrided(model_or_path, output_stride), input_size=size)
    if isinstance(model_or_path, Client):
        from keras_deeplab.inference.runtimes.server import ServerRuntime

        _refuse("a model on a server", of_a_file, "export the model with it")
        return _at_its_own(ServerRuntime(model_or_path), output_stride)
    if not isinstance(model_or_path, (str, os.PathLike)):
        raise ValueError(
            f"expected a keras.Model, a Predictor or a path, received {type(model_or_path).__name__}: {model_or_path!r}"
        )
    path = Path(model_or_path).expanduser()
    suffix = path.suffix.lower()
    if suffix in (*RUNTIMES, ".keras") and not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if suffix in RUNTIMES:
        kind = {".tflite": "a TFLite file", ".onnx": "an ONNX file"}.get(suffix, f"a {suffix} file")
        options = {"num_threads": num_threads}
        _refuse(kind, of_weights, "it is run as it was exported")
        if input_range is not None:
            if runtime == FASTEST:
                runtime = "litert"  # the others don't take it
            if runtime_of(path, runtime) != "litert":
                _refuse(kind, {"input_range": True}, "such files take images in 0..255 here")
            options["input_range"] = input_range
        if not settings.safe_mode:
            options["safe_mode"] = False
        opened = open_file(path, runtime, **options)
        others = installed(path)[1:] if runtime is None else []
        also = f'; {" and ".join(others)} can run it too: runtime="fastest" tries all' if others else ""
        _log.info("%s is run by %s%s", path, opened.program, also)
        return _at_its_own(opened, output_stride)
    if runtime is not None:
        raise ValueError(f"runtime {runtime!r} is for {' and '.join(RUNTIMES)} files; {path} is neither")
    if input_range is not None:
        raise ValueError(f"input_range is for TFLite files; {path} is none: such models take images in 0..255")
    from keras_deeplab.inference.runtimes import saved_model

    folder = saved_model.folder_of(path)
    if folder is not None:
        _refuse("a SavedModel", of_weights, "it is run as it was exported")
        return _at_its_own(saved_model.SavedModelRuntime(folder, settings.safe_mode), output_stride)
    import keras_deeplab

    options = dict(checkpoint or {}) | ({} if output_stride is None else {"output_stride": output_stride})
    return KerasRuntime(keras_deeplab.load(path, **options), name=str(path), input_size=size)


def _restrided(model, output_stride, name=None):
    """The model at the output stride that is asked for."""
    if output_stride is None:
        return model
    from keras_deeplab.models.strides import with_output_stride

    return with_output_stride(model, output_stride, name)


def _at_its_own(runtime, output_stride):
    """A runtime whose graph is fixed; ValueError where another output stride is asked for than it tells."""
    own = None if runtime.spec is None else runtime.spec.output_stride
    if output_stride is None or own == output_stride:
        return runtime
    raise ValueError(
        f"output_stride={output_stride} can't be chosen for {runtime.name}: its graph is fixed, "
        f"{'and nothing tells its output stride' if own is None else f'at output stride {own}'}. Export the model with "
        "it, or take the .keras file or checkpoint that it was exported from"
    )


def _refuse(kind, options, way_out):
    for name, given in options.items():
        if given:
            raise ValueError(f"{name} can't be chosen for {kind}; {way_out}")
