"""Networks in ONNX files: names tell whose they are, as in a checkpoint, operators the settings that names don't.

Exporters fold batch norms into the convolutions before them. Ours are then filled as identities that only add the
folded bias, so that inference is that of the file; before training on, know that these are not the statistics of its
activations. What was found is run beside the file itself before it counts.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_deeplab.backbones import preprocessing
from keras_deeplab.metadata.onnx import read_spec
from keras_deeplab.weights.names import TORCH, Dialect, renamed
from keras_deeplab.weights.plan import Network, Plan, all_layers
from keras_deeplab.weights.readers import onnx as reader
from keras_deeplab.weights.readers.common import reading

# A scale of pixels above this is one of pixels in 0..1; a deviation is less than 2 there, and 510 of those in 0..255.
_UNIT_SCALE = 0.5
# What operators tell of settings that names don't.
_TOLD = ("output_stride", "atrous_rates", "multi_grid", "align_corners", "backbone")
_STRIDES = (16, 8, 32, 4)
_GRIDS = (None, (1, 2, 4), (1, 2))
_SIZE = (64, 96)  # of the image that both are run on, where the file takes any: 32 divides it, which some ask for
_CLOSE = 1e-4  # share of the range of the scores; the same network in two runtimes differs by some 1e-6
# The names are those of our variables, the axes PyTorch's, which are ONNX's.
_OWN = Dialect(leaves=(), ignored="", axes=TORCH.axes)


def read(path: Any) -> tuple[Mapping[str, np.ndarray], reader.Graph]:
    """An ONNX file to `{name: array}`, with their plan where this package wrote the file, and its graph.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, has a record that can't be understood, or no arrays that have names.
    """
    graph = reader.read(path)
    with reading(path, "an ONNX file"):
        if not graph.arrays:
            raise ValueError("it has no convolution whose name tells where it belongs")
        file = read_spec(path)
    if file is None:
        return graph.arrays, graph
    return Network(graph.arrays, Plan("keras", file.model, (), _OWN, folded=True)), graph


def candidates(graph: reader.Graph, plan: Plan, arrays: Mapping[str, np.ndarray]) -> Iterator[Plan]:
    """The plans that a file's arrays may belong to, each with what the operators tell, the likeliest first.

    Of several networks that the arrays fit a plan is one; `undecided` says which.
    """
    plan = replace(plan, folded=True)
    if plan.source == "keras":
        yield plan
        return
    rates = _rates(operators(graph, plan, arrays))
    resize: dict[str, Any] = {}
    if len(graph.resizes) == 1:
        resize = {"align_corners": graph.resizes == {"align_corners"}}
    for each in plan.undecided or ({},):
        chosen = {**each, **resize}
        first = chosen.pop("output_stride", plan.spec.output_stride)
        grid = chosen.pop("multi_grid", plan.spec.settings.get("multi_grid"))
        strides, grids = (dict.fromkeys((one, *others)) for one, others in ((first, _STRIDES), (grid, _GRIDS)))
        for unit_rates, output_stride in itertools.product(grids, strides):
            settings = {**chosen, "output_stride": output_stride, "multi_grid": unit_rates}
            if "multi_grid" not in plan.spec.settings and unit_rates is None:
                del settings["multi_grid"]
            found = plan.chosen(**settings)
            if rates and found.spec.settings.get("atrous_rates") != rates:
                found = found.chosen(atrous_rates=rates)
            left = tuple(name for name in plan.assumed if name not in _TOLD)
            yield replace(found, undecided=(each,) if each else (), assumed=left)


def normalisation(graph: reader.Graph) -> tuple[Any, float] | None:
    """What a file does to its input before the first convolution, if anything.

    Returns:
        None, or (how pixels are normalised, as `preprocessing.normalise` takes it; what pixels in 0..255 are to be
        multiplied with for the file: 1, or 1 / 255 where it takes them in 0..1).

    Raises:
        ValueError: something that isn't a scale and an offset of each channel.
    """
    first = graph.first
    if first is None or first == _source(graph).name:
        return None
    shape, channels = _shape(graph), graph.channels
    made = []
    for value in (0.0, 1.0, 0.25):
        image = np.full((1, *shape, channels), value, "float32")
        (found, *_) = _run(graph, image if _channels_last(graph, channels) else image.transpose(0, 3, 1, 2), [first])
        middle = found[0, :, found.shape[2] // 2, found.shape[3] // 2]
        if found.ndim != 4 or found.shape[1] != channels or np.ptp(found, axis=(2, 3)).max() > 1e-4:
            raise ValueError("it changes its images before the first convolution, by more than a scale and an offset")
        made.append(middle.astype("float64"))
    offset, scale = made[0], made[1] - made[0]
    if channels != 3 or not np.allclose(offset + 0.25 * scale, made[2], rtol=1e-3, atol=1e-4) or (scale <= 0).any():
        raise ValueError("it changes its images before the first convolution, by more than a scale and an offset")
    unit = 1 / 255 if scale.max() > _UNIT_SCALE else 1.0
    # Of the digits that float32 adds to those that somebody wrote.
    deviations = [round(float(1 / (255 * unit * each)), 5) for each in scale]
    means = [round(float(-each / one), 5) for each, one in zip(offset, scale * 255 * unit, strict=True)]
    return preprocessing.mode_of(
        [1 / (255 * each) for each in deviations],
        [-mean / deviation for mean, deviation in zip(means, deviations, strict=True)],
    ), unit


def operators(graph: reader.Graph, plan: Plan, arrays: Mapping[str, np.ndarray]) -> dict[str, reader.Operator]:
    """`{our name of a layer: its operator}` of arrays by the names of the plan's source."""
    found = {}
    for name, array in arrays.items():
        operator = graph.operators.get(id(array))
        if operator is not None:
            path = next(iter(renamed({name: ()}, plan.rows, plan.dialect)), name)
            found[path.rpartition("/")[0]] = operator
    return found


def _rates(found):
    """The atrous rates of the pyramid, in the order of its branches; () where it has none."""
    branches = {}
    for layer, operator in found.items():
        match = re.fullmatch(r"aspp([1-9]\d*)(_depthwise)?", layer)
        if match is not None and operator.rate is not None:
            # Of a separable convolution the depthwise half has the rate.
            branches[int(match[1])] = max(operator.rate[0], branches.get(int(match[1]), 0))
    return tuple(branches[index] for index in sorted(branches))


def unlike(found: Mapping[str, reader.Operator], model: Any) -> str | None:
    """How a model's convolutions step otherwise than a file's, in words; None where they don't."""
    for layer in all_layers(model):
        operator = found.get(layer.name)
        if operator is None or operator.strides is None or not hasattr(layer, "kernel_size"):
            continue
        ours: list[tuple | None] = [tuple(layer.strides)]
        theirs: list[tuple | None] = [operator.strides]
        if max(layer.kernel_size) > 1:
            ours.append(tuple(layer.dilation_rate))
            theirs.append(operator.rate)
        if ours != theirs:
            return f"{layer.name} has strides and rates {theirs} in the file, {ours} in the network of its names"
    return None


def difference(
    graph: reader.Graph, found: Mapping[str, reader.Operator], model: Any, unit: float | None = None
) -> float:
    """The largest difference of a filled model's scores from those of the file, as a share of their range.

    Both are run on one image of noise. Compared are what the last convolution gives, where the file has it, and what
    the file gives where that are scores of the images' size, or labels of them.

    Args:
        found: of `operators`.
        model: a model with the values of the file, from the images that the file takes to scores of their size.
        unit: what pixels in 0..255, which the model takes, are multiplied with for the file; None where both take
            normalised images.

    Raises:
        ValueError: ONNX Runtime isn't there, or can't run the file on such images.
    """
    import keras

    channels = model.input_shape[-1]
    image = np.random.default_rng(0).standard_normal((1, *_shape(graph), channels)).astype("float32")
    if unit is not None:
        image = np.clip(128 + 50 * image, 0, 255).round()
    theirs = image if unit is None else image * np.float32(unit)
    logits = found.get("logits")
    named = [logits.output] if logits is not None else []
    given = _run(graph, theirs if _channels_last(graph, channels) else theirs.transpose(0, 3, 1, 2), named)
    scores = {"whole": model.output} | ({"coarse": model.get_layer("logits").output} if named else {})
    made = {name: np.asarray(each) for name, each in keras.Model(model.input, scores)(image, training=False).items()}
    whole, inner = made.pop("whole"), list(made.values())
    coarse = [_share(theirs.transpose(0, 2, 3, 1), ours) for theirs, ours in zip(given, inner, strict=False)]
    # Of several outputs one is the network's, others auxiliary ones.
    fine = [share for share in (_share_of_output(each, whole) for each in given[len(inner) :]) if share is not None]
    if not coarse and not fine:
        raise ValueError("the file gives neither scores nor labels of the images' size that could be compared")
    return max([*coarse, min(fine, default=0.0)])


def close(share: float) -> bool:
    """Whether a `difference` is one of rounding."""
    return share <= _CLOSE


def _share(theirs, ours):
    if theirs.shape != ours.shape:
        return float("inf")
    return float(np.abs(theirs - ours).max() / max(np.ptp(theirs), 1e-12))


def _share_of_output(theirs, scores):
    """The difference of an output from scores, or of labels, as 0 or 1; None where it is neither of these sizes."""
    if theirs.ndim == 4 and theirs.shape[1] == scores.shape[-1] != theirs.shape[-1]:
        theirs = theirs.transpose(0, 2, 3, 1)
    if theirs.shape == scores.shape and np.issubdtype(theirs.dtype, np.floating):
        return min(_share(theirs, each) for each in _activated(scores))
    if np.issubdtype(theirs.dtype, np.integer) and theirs.size == scores[..., 0].size and scores.shape[-1] > 1:
        # Of scores that are close to one another either label may be told.
        return 0.0 if np.mean(theirs.reshape(-1) == scores.argmax(-1).reshape(-1)) > 0.999 else 1.0
    return None


def _activated(scores):
    """Scores as they are, and as a file's last operator may have made them."""
    yield scores
    stable = np.exp(scores - scores.max(-1, keepdims=True))
    yield stable / stable.sum(-1, keepdims=True)
    yield 1 / (1 + np.exp(-scores))


def _source(graph):
    constants = {each.name for each in graph.proto.graph.initializer}
    sources = [each for each in graph.proto.graph.input if each.name not in constants]
    if len(sources) != 1 or len(sources[0].type.tensor_type.shape.dim) != 4:
        raise ValueError(f"it has {len(sources)} inputs, not one of images")
    return sources[0]


def _sides(graph):
    return [each.dim_value or None for each in _source(graph).type.tensor_type.shape.dim]


def _channels_last(graph, channels):
    sides = _sides(graph)
    return sides[3] == channels != sides[1]


def _shape(graph):
    """(height, width) of images that a file takes."""
    sides = _sides(graph)
    height, width = sides[1:3] if sides[3] is not None and sides[3] <= 4 else sides[2:]
    return height or _SIZE[0], width or _SIZE[1]


def _run(graph, image, named):
    """The results of these names, then the file's own outputs, of an image."""
    runtime, helper = reader.package("onnxruntime"), reader.package().helper
    proto = reader.package().ModelProto()
    proto.CopyFrom(graph.proto)
    outputs = [each.name for each in proto.graph.output]
    for name in named:
        if name not in outputs:
            proto.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    with reading(graph.path, "a network that ONNX Runtime runs"):
        session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (source,) = session.get_inputs()
        kind = {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}.get(source.type, "float32")
        return session.run([*named, *outputs], {source.name: image.astype(kind)})
