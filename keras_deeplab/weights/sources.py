"""Whose checkpoint it is: names and shapes of arrays to the plan of the network that they belong to."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_deeplab.registry import Registry
from keras_deeplab.weights import (
    bonlime,
    caffe,
    coincheung,
    detectron2,
    foreign,
    fregu856,
    jfzhang95,
    kazuto1011,
    keras_hub,
    mmsegmentation,
    paddleseg,
    smp,
    tf1,
    tflite,
    torchvision,
    transformers,
    vainf,
)
from keras_deeplab.weights.beside import split
from keras_deeplab.weights.plan import Network
from keras_deeplab.weights.several import chosen, networks

# Each has a `TITLE` for messages and `recognise(shapes, label, configs)`, which maps `{name: shape}`, and what lies
# beside the arrays as `{file name: what it says}` (`places.configs_in`, `readers.torch.notes_in`), to the
# `keras_deeplab.weights.plan.Plan` of a checkpoint, or to None where it is another source's; and, where weights can be
# written for it, `export_rows(paths, layers)`, which maps a model's variables and layers by name to the rows, dialect
# and constants of such a plan, and perhaps `other_names(name)`, the names that it keeps a tensor under besides,
# `unused(state)`, the arrays that it keeps beside those of `{name: array}` and doesn't compute with, and `FREE`, the
# settings that a model may have otherwise than its arrays tell.
SOURCES: Registry[Any] = Registry(
    "source",
    tf1=tf1,
    vainf=vainf,
    torchvision=torchvision,
    jfzhang95=jfzhang95,
    kazuto1011=kazuto1011,
    fregu856=fregu856,
    smp=smp,
    transformers=transformers,
    keras_hub=keras_hub,
    mmsegmentation=mmsegmentation,
    paddleseg=paddleseg,
    detectron2=detectron2,
    coincheung=coincheung,
    caffe=caffe,
    bonlime=bonlime,
    tflite=tflite,
)


def recognise(
    arrays: Any,
    label: str = "the given mapping",
    source: str = "auto",
    configs: Mapping[str, Any] | None = None,
    prefix: str | None = None,
) -> Any:
    """The `Plan` of the model that `{name: array}` belongs to: what `load` builds and fills.

    Args:
        configs: `{file name: parsed JSON}` of the descriptions that lie beside the arrays, such as `config.json`.
        prefix: what the names of the network begin with, of arrays that hold several.

    Raises:
        ValueError: no source's checkpoint has such names, or it is one of a network that isn't built here.
    """
    return match(arrays, label, source, configs, prefix)[0]


def match(
    arrays: Any,
    label: str = "the given mapping",
    source: str = "auto",
    configs: Mapping[str, Any] | None = None,
    prefix: str | None = None,
) -> Any:
    """(plan, arrays) of a checkpoint: as `recognise`, and the arrays by the names that the plan's source gives them.

    What all names begin with beyond that is left out: a PyTorch Lightning module has its network as an attribute, such
    as `model.`. What a training saved beside it is left out too, and stands in the plan (`Plan.beside`).
    """
    if isinstance(arrays, Network) and source in ("auto", arrays.plan.source):
        return arrays.plan.with_channels({path: array.shape for path, array in arrays.items()}), arrays
    if source == "keras":
        raise ValueError(f"{label} holds no network of Keras, as files that this package wrote do.{_PLAIN_WEIGHTS}")
    network, beside = split(arrays)
    found = networks(network, lambda inner: _source_of(inner, label, source, configs or {}))
    if not found:
        raise ValueError(_refusal(arrays, label, source))
    plan, inner = chosen(found, network, prefix, label)
    return replace(plan, beside=beside), inner


def _source_of(arrays, label, source, configs):
    """The plan of the first source whose network these are; None where they are nobody's."""
    shapes = {name: tuple(np.shape(array)) for name, array in arrays.items()}
    for key in SOURCES if source == "auto" else [source]:
        plan = _plan(key, shapes, label, configs)
        if plan is not None:
            return plan
    return None


def _refusal(arrays, label, source):
    scopes = sorted({re.split(r"[./]", name)[0] for name in arrays})
    titles = [module.TITLE for module in SOURCES.values()] if source == "auto" else [SOURCES[source].TITLE]
    seems = foreign.told(arrays)
    plain = bool(arrays) and all(re.search(r"(^|/)vars/\d+$", name) for name in arrays)
    return (
        f"{label} holds no DeepLab that can be rebuilt: its arrays are in "
        f"{', '.join(scopes[:12]) or 'nothing'}. {seems}{' ' * bool(seems)}What can: checkpoints of "
        f"{', '.join(titles)}.{_PLAIN_WEIGHTS if plain else ''}"
    )


_PLAIN_WEIGHTS = (
    " Weights that a plain Keras model saved (model.save_weights) don't tell their network: build it and give the file "
    "as weights=, as in DeepLabV3Plus(..., weights='x.weights.h5'). Those of this package's models do."
)


def _plan(key, shapes, label, configs):
    """The plan that a source makes of `{name: shape}`, None where they aren't its own."""
    try:
        plan = SOURCES[key].recognise(shapes, label, configs)
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"{label} looks like a checkpoint of {SOURCES[key].TITLE}, but the names and shapes of its arrays, or "
            f"what lies beside them, don't tell a network that can be built ({type(error).__name__}: {error})."
        ) from error
    except ValueError as error:
        raise error if label in str(error) else ValueError(f"{label}: {error}") from error
    if plan is None:
        return None
    plan = plan.with_channels(shapes)
    _check_widths(plan, shapes, label)
    return plan


def _check_widths(plan, shapes, label):
    """Raises ValueError where an array asks for a network far beyond what the checkpoint holds."""
    size = sum(math.prod(shape) for shape in shapes.values())
    filters = plan.spec.settings.get("filters") or 1
    for width in (filters, plan.spec.settings.get("low_level_filters"), plan.spec.num_classes):
        # Each stands beside `filters` in the shape of a kernel.
        if (width or 0) * filters > size:
            raise ValueError(
                f"{label} asks for {width:,} filters beside {filters:,}, and holds {size:,} numbers in all: the "
                "network it belongs to has more."
            )
