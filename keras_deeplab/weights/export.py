"""Going back: a model's weights under the names, and with the axes, of the code that other people run."""

import numpy as np

from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.weights import SOURCES, recognise
from keras_deeplab.weights.state_dict import Plan, all_layers, their_name

# Layers that a model may have or lack without being another network.
_ROUND = ("images", "preprocessing", "upsample_", "classifier_activation", "auxiliary_upsample")


def state_dict(model, source):
    """Maps a model of this package to `{name: array}` as a checkpoint of `source` holds them: `load` the other way.

    Args:
        model: a DeepLab of this package, built, loaded or trained, of the source's flavour.
        source: `"torchvision"`, `"vainf"` or another of PyTorch's (convolutions (out, in, h, w), with the counters of
            batch norm), or `"tf1"`, Google's names.

    Returns:
        A `dict` of NumPy arrays that `load` reads back into the same weights, and the source's own code as well:
        `model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})`.

    Raises:
        ValueError: another source, or a model that isn't this source's network: the message says what it lacks.

    Example (needs PyTorch)::

        state = keras_deeplab.weights.export.state_dict(model, "vainf")
        torch.save({"model_state": {name: torch.from_numpy(array) for name, array in state.items()}}, "model.pth")
    """
    able = [name for name, module in SOURCES.items() if hasattr(module, "export_rows")]
    if source not in able:
        raise ValueError(f"source must be one of {', '.join(map(repr, able))}; received {source!r}.")
    title, variables = SOURCES[source].TITLE, {variable.path: variable for variable in model.weights}
    layers = {layer.name: layer for layer in all_layers(model)}
    rows, dialect, constants = SOURCES[source].export_rows(variables, layers)
    names = {path: their_name(path, rows, dialect, **constants) for path in variables}
    nameless = [path for path, name in names.items() if name is None]
    if nameless:
        raise ValueError(f"{model.name!r} is no network of {title}, which has no {', '.join(nameless[:6])}.")
    other_names = getattr(SOURCES[source], "other_names", lambda name: ())

    def arrays(plan):
        state = {
            names[path]: np.ascontiguousarray(plan.arrange(variable.numpy(), variable, layers, back=True))
            for path, variable in variables.items()
        }
        if dialect.counter is not None:
            means = [name for path, name in names.items() if path.endswith("_BN/moving_mean")]
            state.update({name.rpartition(".")[0] + dialect.counter: np.zeros((), "int64") for name in means})
        return state | {other: array for name, array in state.items() for other in other_names(name)}

    unordered = Plan(source, None, "", None, rows, dialect)
    plan = recognise(arrays(unordered), repr(model.name), source)
    _compare(model, layers, plan, title)
    return arrays(plan)


def _compare(model, layers, plan, title):
    """Raises ValueError unless a model has the layers of one that the source's checkpoint would become."""
    settings = {"auxiliary_head": True} if "auxiliary_logits" in layers else {}
    if "aspp0_relu6" in layers:  # an option of research/deeplab, which names don't tell
        settings.update(backbone="xception_65_bounded", flavour="tf_bounded")
    own = _network(layers.values())
    # Where the network isn't rewritten, its layers depend on the output stride.
    for output_stride in BACKBONES[plan.backbone].output_strides or [plan.output_stride]:
        with unallocated():
            twin = plan.build(
                num_classes=plan.num_classes,
                output_stride=output_stride,
                input_shape=(None, None, model.input_shape[-1]),
                include_preprocessing=False,
                **settings,
            )
        theirs = _network(all_layers(twin))
        if own == theirs:
            return
    lacks, extra = ([name for name, *_ in sorted(each, key=str)] for each in (theirs - own, own - theirs))
    raise ValueError(
        f"{model.name!r} has the variables of {title}'s {twin.name!r} and is another network. Without their match are "
        f"there {', '.join(lacks[:6]) or 'none'}, here {', '.join(extra[:6]) or 'none'} (by name, resize convention, "
        "epsilon of batch norm)."
    )


def _network(layers):
    return {
        (layer.name, getattr(layer, "align_corners", None), getattr(layer, "epsilon", None))
        for layer in layers
        if not (layer.name.startswith(_ROUND) or "dropout" in layer.name)
    }
