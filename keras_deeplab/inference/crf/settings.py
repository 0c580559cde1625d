"""The numbers of a dense CRF: published ones by name, those of a search from its file, others as text."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_deeplab._helpers.files import read_regular
from keras_deeplab._helpers.values import from_json
from keras_deeplab.options import Options, option, record
from keras_deeplab.registry import Registry

# How the sums over pixels are normalised. "after" divides each pixel's by its own weights, as the code that DeepLab v1
# and v2 ran; "symmetric" multiplies with one over their root before and after, the default of pydensecrf.
NORMALISATIONS = ("after", "symmetric")


@record
class Parameters(Options):
    """Weights and standard deviations of both potentials, as the papers call them.

    Two pixels of different labels, at positions p and q and of colours I and J in 0..255, cost
    w1 exp(-|p - q|^2 / (2 sigma_alpha^2) - |I - J|^2 / (2 sigma_beta^2)) + w2 exp(-|p - q|^2 / (2 sigma_gamma^2)).

    >>> PARAMETERS["v2_resnet101"].text()
    '4/67/3,3/1'
    >>> parameters("4/67/3,3/1").sigma_alpha
    67.0
    """

    TITLE = "dense CRF"

    w1: float = option(help="weight of pixels alike in place and colour", minimum=0)
    sigma_alpha: float = option(help="how far apart such pixels may be, in pixels", above=0)
    sigma_beta: float = option(help="how far apart their colours may be, of 0..255", above=0)
    w2: float = option(help="weight of pixels alike in place alone", minimum=0)
    sigma_gamma: float = option(help="how far apart those may be, in pixels", above=0)
    normalisation: str = option("after", "of the sums over pixels", choices=NORMALISATIONS)
    iterations: int = option(10, "of mean field", minimum=0)
    source: str = option("", "where the numbers are from", configuration=False)

    def text(self) -> str:
        """What `parameters` reads, apart from the iterations."""
        numbers = f"{self.w1:g}/{self.sigma_alpha:g}/{self.sigma_beta:g},{self.w2:g}/{self.sigma_gamma:g}"
        return numbers if self.normalisation == NORMALISATIONS[0] else f"{numbers}:{self.normalisation}"


def _published(w1: float, alpha: float, beta: float, w2: float, gamma: float, source: str) -> Parameters:
    return Parameters.of(w1=w1, sigma_alpha=alpha, sigma_beta=beta, w2=w2, sigma_gamma=gamma, source=source)


PARAMETERS: Registry[Parameters] = Registry(
    "CRF parameters",
    v1_largefov=_published(4, 49, 5, 3, 3, "DeepLab v1, the script beside the released VGG16-LargeFOV"),
    v1_largefov_121=_published(4, 121, 5, 3, 3, "DeepLab v1, another script of its code"),
    v2_vgg16=_published(4, 65, 3, 2, 2, "DeepLab v2, the script beside the released VGG16"),
    v2_resnet101=_published(4, 67, 3, 3, 1, "DeepLab v2 ResNet-101, configs/voc12.yaml of kazuto1011/deeplab-pytorch"),
    densecrf=_published(10, 60, 20, 3, 3, "defaults of dense_inference.cpp in DeepLab's code"),
)


def parameters(given: str | Parameters) -> Parameters:
    """A published name, a JSON file of `keras-deeplab tune-crf`, or numbers, to `Parameters`.

    Numbers are `w1/sigma_alpha/sigma_beta,w2/sigma_gamma`, such as `4/67/3,3/1`. Names and numbers may end in
    `:symmetric`, for pydensecrf's normalisation in place of DeepLab's. `Parameters` are returned as they are.

    Raises:
        ValueError: it is none of them, the message names the nearest; or a number is out of range.
        FileNotFoundError: there is no such .json file.
    """
    if isinstance(given, Parameters):
        return given
    if not isinstance(given, str) or not given.strip():
        raise ValueError(f"CRF parameters must be text or Parameters, received {given!r}. {_ways()}")
    text = given.strip()
    if text.lower().endswith(".json"):
        return read(text)
    body, mark, normalisation = text.partition(":")
    if "/" in body and re.fullmatch(r"[-+.\deE/,\s]+", body):
        found = _numbers(body, given)
    elif body in PARAMETERS:
        found = PARAMETERS[body]
    elif Path(text).is_file():
        return read(text)
    else:
        try:
            PARAMETERS[body]
        except ValueError as error:
            raise ValueError(f"{error} {_ways()}") from None
    return found.with_options(normalisation=normalisation) if mark else found


def _ways() -> str:
    return (
        f"Give one of {', '.join(PARAMETERS)}; a JSON file that keras-deeplab tune-crf wrote; or numbers "
        "w1/sigma_alpha/sigma_beta,w2/sigma_gamma such as 4/67/3,3/1"
    )


def _numbers(body: str, given: str) -> Parameters:
    try:
        (w1, alpha, beta), (w2, gamma) = (map(float, part.split("/")) for part in body.split(","))
    except ValueError:
        raise ValueError(
            f"CRF parameters {given!r} are not of the form w1/sigma_alpha/sigma_beta,w2/sigma_gamma, such as 4/67/3,3/1"
        ) from None
    return _published(w1, alpha, beta, w2, gamma, "")


def read(path: str) -> Parameters:
    """A JSON file, as `written` makes it, to `Parameters`.

    Raises:
        ValueError: it holds something else.
        FileNotFoundError: there is none.
    """
    place = Path(path).expanduser()
    try:
        held = from_json(read_regular(place))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {place} of CRF parameters. {_ways()}") from None
    except ValueError as error:  # of the encoding too
        raise ValueError(f"{place} is no JSON of CRF parameters: {error}") from None
    if not isinstance(held, Mapping) or not isinstance(held.get("crf"), Mapping):
        raise ValueError(f'{place} is no JSON of CRF parameters: it has no object "crf"')
    try:
        return Parameters.of(**held["crf"]).filled(source=str(place))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def written(found: Parameters, **told: Any) -> bytes:
    """Parameters, and what else is to be told of them, as JSON that `read` reads."""
    return (json.dumps({"crf": found.to_json(), **told}, indent=1) + "\n").encode()
