"""`dense_crf`: an image and its probabilities to the marginals of a dense CRF, in one call."""

import numpy as np

from keras_deeplab.inference.crf.mean_field import DenseCRF
from keras_deeplab.inference.crf.settings import Parameters
from keras_deeplab.inference.crf.settings import parameters as parameters_of

# Where a probability is smaller, its energy is as of this one, as of pydensecrf's unary_from_softmax.
FLOOR = 1e-5


def dense_crf(
    image: np.ndarray,
    probabilities: np.ndarray,
    parameters: str | Parameters = "v2_resnet101",
    iterations: int | None = None,
) -> np.ndarray:
    """Image (H, W, 3) and probabilities (H, W, C) to float32 marginals (H, W, C): labels that follow the image's edges.

    DeepLab v1 and v2 end with it. Pixels near each other, and more so those of like colours, draw each other to the
    same label: mean field in a fully connected CRF with Potts potentials, filtered on a permutohedral lattice.

    Args:
        image: uint8, or float in 0..255; RGB, or one channel of grey. A batch (B, H, W, 3) goes with a batch of
            probabilities (B, H, W, C).
        probabilities: float, of each pixel's classes, adding up to 1: what `Predictor.probabilities` returns.
        parameters: a published name (`keras_deeplab.inference.crf.PARAMETERS`), a JSON file of `keras-deeplab
            tune-crf`, numbers `"w1/sigma_alpha/sigma_beta,w2/sigma_gamma"`, or `Parameters`. The normalisation is
            DeepLab's own; a name or numbers that end in `:symmetric` have pydensecrf's.
        iterations: of mean field; None for those of the parameters, 10 of all published ones.

    Raises:
        ValueError: shapes that don't go together, values out of range, NaN, unknown parameters; the message says what
            would do.
    """
    settings = parameters_of(parameters)
    image, probabilities = np.asarray(image), np.asarray(probabilities)
    if iterations is not None and (isinstance(iterations, bool) or not isinstance(iterations, (int, np.integer))):
        raise ValueError(f"iterations must be a whole number of at least 0, received {iterations!r}")
    if iterations is not None and iterations < 0:
        raise ValueError(f"iterations must be at least 0, received {iterations}")
    _check_shapes(image, probabilities)
    _check_image(image)
    _check_probabilities(probabilities)
    one = image.ndim == 3
    images, beliefs = (image[None], probabilities[None]) if one else (image, probabilities)
    found = refine(images, beliefs, settings, iterations)
    return found[0] if one else found


def refine(
    images: np.ndarray, probabilities: np.ndarray, settings: Parameters, iterations: int | None = None
) -> np.ndarray:
    """The same for batches that are known to be right: (B, H, W, 1 or 3) and (B, H, W, C) to (B, H, W, C)."""
    found = np.empty(probabilities.shape, np.float32)
    crf = None
    for number, image in enumerate(images):
        crf = DenseCRF(coloured(image), settings, like=crf)
        found[number] = crf.marginals(energies_of(probabilities[number]), iterations)
    return found


def energies_of(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities to energies, their negative logarithms, float32."""
    energies = np.maximum(probabilities, FLOOR, dtype=np.float32)
    np.log(energies, out=energies)
    return np.negative(energies, out=energies)


def coloured(image: np.ndarray) -> np.ndarray:
    """An image of one channel to one of three, whose distances the standard deviations are for."""
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def channels_refused(channels: int) -> str:
    """Why images of so many channels have no CRF, and what has."""
    return (
        f"the CRF compares colours, of RGB images or grey ones, and received {channels} channels, for which no "
        "standard deviation is known. Call keras_deeplab.dense_crf(image, probabilities) with three of them, in 0..255"
    )


def _check_shapes(image: np.ndarray, probabilities: np.ndarray) -> None:
    if image.ndim not in (3, 4) or 0 in image.shape:
        raise ValueError(f"the image must have shape (H, W, 3), or (B, H, W, 3) of a batch; received {image.shape}")
    if image.shape[-1] not in (1, 3):
        raise ValueError(channels_refused(image.shape[-1]))
    if probabilities.ndim != image.ndim or probabilities.shape[:-1] != image.shape[:-1] or 0 in probabilities.shape:
        raise ValueError(
            f"an image of shape {image.shape} needs probabilities of shape ({', '.join(map(str, image.shape[:-1]))}, "
            f"classes), received {probabilities.shape}: the CRF works at the image's full size"
        )


def _check_image(image: np.ndarray) -> None:
    if image.dtype == np.uint8:
        return
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"the image must be uint8 or floating point in 0..255, received dtype {image.dtype}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0.0 and high <= 255.0):  # NaN is neither
        raise ValueError(f"the image must be in 0..255, received values from {low:g} to {high:g}")
    if 0.0 < high <= 1.0:
        raise ValueError(
            f"the image must be in 0..255, and its greatest value is {high:g}: an image in 0..1 is to be multiplied by "
            "255; one as dark as this is to be given as uint8"
        )


def _check_probabilities(probabilities: np.ndarray) -> None:
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"probabilities must be floating point, received dtype {probabilities.dtype}")
    low, high = float(probabilities.min()), float(probabilities.max())
    if not (low >= -1e-3 and high <= 1.0 + 1e-3):
        raise ValueError(
            f"probabilities must be in 0..1, received values from {low:g} to {high:g}: of logits take the softmax first"
        )
    total = probabilities.sum(-1, dtype=np.float32)
    if np.abs(total - 1.0).max() > 1e-2:
        raise ValueError(
            f"each pixel's probabilities must add up to 1, received sums from {total.min():g} to {total.max():g}: of a "
            "binary model give both labels' (Predictor.probabilities does); a multi-label model's classes are not one "
            "choice, give each with its complement by itself"
        )
