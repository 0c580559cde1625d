"""Outputs that are numbers of each pixel: probabilities, entropy, confidence. NumPy's files, or GeoTIFF for GeoTIFF."""

import io
from collections.abc import Callable, Sequence

import numpy as np

from keras_deeplab.inference.answers import encode_png
from keras_deeplab.inference.outputs.place import geotiff
from keras_deeplab.inference.outputs.result import Output, Result


def probabilities_file(result: Result) -> dict[str, bytes]:
    """Probabilities (H, W, C) with the label and name of each class; as bands of a GeoTIFF with these names."""
    names = [result.legend.names[label] for label in result.legend.channels]
    if result.place is not None:
        return {"_probabilities.tif": geotiff(result.probabilities, result.place, names)}
    arrays = {
        "probabilities": result.probabilities,
        "labels": np.array(result.legend.channels),
        "names": np.array(names),
    }
    return {"_probabilities.npz": _npz(arrays)}


def entropy(probabilities: np.ndarray, exclusive: bool = True) -> np.ndarray:
    """Probabilities (H, W, C) to their entropy in nats, float32 (H, W): 0 where one class is sure, log C where none is.

    Of classes that don't exclude each other the sum of the entropies of each, at most C log 2.
    """
    total = np.zeros(probabilities.shape[:-1], np.float32)
    for channel in range(probabilities.shape[-1]):  # one at a time, which takes a fraction of the memory
        share = probabilities[..., channel]
        for each in (share,) if exclusive else (share, 1 - share):
            total -= each * np.log(np.maximum(each, np.finfo(np.float32).tiny))
    return np.maximum(total, 0)


def _of_a_pixel(name: str, value: Callable[[Result], np.ndarray]) -> Callable[[Result], dict[str, bytes]]:
    def make(result: Result) -> dict[str, bytes]:
        if result.place is not None:
            return {f"_{name}.tif": geotiff(value(result), result.place, [name])}
        return {f"_{name}.npz": _npz({name: value(result)})}

    return make


def confidence_file(result: Result) -> dict[str, bytes]:
    """The likeliest class's probability: grey PNG of 16 bits, 65535 for 1; float32 in a GeoTIFF."""
    sure = result.probabilities.max(-1)
    if result.place is not None:
        return {"_confidence.tif": geotiff(sure, result.place, ["confidence"])}
    return {"_confidence.png": encode_png(np.rint(np.clip(sure, 0, 1) * 65535).astype(np.uint16))}


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _endings(name: str, kinds: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"_{name}.{kind}" for kind in kinds)


PROBABILITIES = Output(
    "of each class, float32: .npz, or GeoTIFF where the image is one",
    _endings("probabilities", ("npz", "tif")),
    probabilities_file,
    needs_scores=True,
    on_map=True,
)
ENTROPY = Output(
    "of the probabilities, in nats: .npz, or GeoTIFF",
    _endings("entropy", ("npz", "tif")),
    _of_a_pixel("entropy", lambda result: entropy(result.probabilities, result.legend.exclusive)),
    needs_scores=True,
    on_map=True,
)
CONFIDENCE = Output(
    "the likeliest class's probability: grey PNG of 16 bits, or GeoTIFF",
    _endings("confidence", ("png", "tif")),
    confidence_file,
    needs_scores=True,
    on_map=True,
)
