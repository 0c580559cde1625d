"""What a file of weights holds, in words; nothing in it is run."""

import json
import os
import re
import shutil
import textwrap
from typing import Any

import numpy as np

from keras_deeplab._helpers.text import shown
from keras_deeplab.backbones import preprocessing
from keras_deeplab.specs import Classes, range_text
from keras_deeplab.weights import applications, own, readers
from keras_deeplab.weights.names import renamed
from keras_deeplab.weights.opening import opened
from keras_deeplab.weights.plan import class_layers
from keras_deeplab.weights.readers.files import kind_of
from keras_deeplab.weights.sources import SOURCES, match

# what `kind_of` says -> in words
_KINDS = {
    "keras": "a .keras file",
    "tf1": "a TensorFlow 1 checkpoint",
    "torch": "a PyTorch checkpoint",
    "pickle": "a pickle of arrays",
    "safetensors": "a safetensors file",
    "shards": "a checkpoint in shards",
    "h5": "HDF5 weights of Keras",
    "pb": "a frozen TensorFlow graph",
    "tflite": "a TFLite file",
    "onnx": "an ONNX file",
}


def describe(
    path: Any,
    source: str = "auto",
    names: bool = False,
    prefix: str | None = None,
    refusal: Any = None,
    planned: Any = None,
) -> str:
    """A file of weights to a text: its kind, the network that `load` would make of it, how many arrays it has.

    Args:
        path: whatever `load` takes, but a mapping.
        source: as `load` takes it.
        names: whether the names, shapes and types of all arrays follow.
        prefix: as `load` takes it.
        refusal: `keras_deeplab.loading.refusal`, to tell of a network that is recognised why `load` refuses it; None
            for what names and shapes tell.
        planned: `keras_deeplab.loading.planned`, to tell what the operators of an ONNX file say, which is run for it;
            None likewise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read. A file that is read and isn't a DeepLab is described, with the reason why `load`
            refuses it.
    """
    try:
        with opened(path) as stored:
            return text(stored, source, names, prefix=prefix, refusal=refusal, planned=planned)
    except ValueError as error:
        if kind_of(path) != "tflite":
            raise
        # No DeepLab, and perhaps a file that can be read.
        return text(own.Stored(os.fspath(path), "tflite", readers.read(path)[1]), source, names, str(error))


def text(
    stored: Any,
    source: str = "auto",
    names: bool = False,
    refused: Any = None,
    prefix: str | None = None,
    refusal: Any = None,
    planned: Any = None,
) -> str:
    """What `opened` gave to the text of `describe`; `refused` is why it gave nothing."""
    arrays = {str(name): np.asarray(array) for name, array in stored.arrays.items()}
    if refused is not None:
        facts = [("does not load", refused), ("holds", _scopes(stored.arrays))]
    elif stored.network is None:
        facts = _network(stored, source, prefix, refusal, planned)
    else:
        with readers.common.reading(stored.path, "a network of Keras"):
            facts = _own(stored)
    parameters, size = (sum(getattr(array, count) for array in arrays.values()) for count in ("size", "nbytes"))
    facts.append(("arrays", f"{len(arrays)} of {parameters:,} values, {size / 1e6:,.1f} MB"))
    lines = [f"{stored.path}: {_KINDS[stored.kind]}"]
    width = max(len(title) for title, _ in facts)
    columns = shutil.get_terminal_size().columns
    for title, text in facts:
        first, *others = textwrap.wrap(
            str(text), max(columns - width - 4, 40), break_on_hyphens=False, break_long_words=False
        )
        lines.append(f"  {title.ljust(width)}  {first}")
        lines += [" " * (width + 4) + line for line in others]
    if names:
        lines += ["", *_table(arrays, columns)]
    return "\n".join(lines)


def _network(stored, source, prefix, refusal, planned):
    """(title, text) of what `load` would build, or of why it doesn't."""
    try:
        if planned is None:
            plan, arrays = match(stored.arrays, stored.path, source, stored.configs, prefix)
        else:
            plan, arrays = planned(stored, source, prefix)
    except ValueError as error:
        return [("does not load", str(error)), ("holds", _scopes(stored.arrays)), *_hint(stored.arrays)]
    facts = [
        ("source", f"{plan.source}: {SOURCES[plan.source].TITLE if plan.source in SOURCES else 'this package'}"),
        *_record(plan.spec, _known(stored, plan.spec)),
    ]
    if plan.undecided:
        networks = [", ".join(f"{name}={value!r}" for name, value in each.items()) for each in plan.undecided]
        facts.append(("undecided", f"{' or '.join(networks)}; load() has to be told, or convert"))
    if plan.assumed:
        taken = ", ".join(f"{name}={value!r}" for name, value in plan.taken({}).items())
        facts.append(("assumed", f"{taken}, which nothing tells; load() and convert take others"))
    if plan.beside.names:
        facts.append(("left out", f"{plan.beside.told()}, which are no part of the network"))
    reason = None if refusal is None else refusal(stored, source, prefix)
    if reason is not None:
        facts.append(("does not load", reason))
    left_out = [name for name, array in arrays.items() if _is_optional(name, array, plan)]
    if left_out:
        scopes = ", ".join(sorted({re.split(r"[./]", name)[0] for name in left_out}))
        facts.append(("optional", f"{len(left_out)} arrays of {scopes}, which a model may go without"))
    return facts


def _known(stored, spec):
    """What is known of the classes: by the file's name, else by what lies beside its arrays."""
    return spec.classes if stored.classes == Classes() else stored.classes


def _record(spec, classes=None, own=False):
    """(title, text) of a record.

    Args:
        classes: what is known of the classes, where the record doesn't know them.
        own: whether it is that of a network which is as it is.
    """
    facts = []
    if spec.builder is not None:
        settings = {name: value for name, value in spec.settings.items() if value is not None}
        flavour = {} if spec.flavour is None else {"flavour": spec.flavour}
        facts.append(("architecture", _call(spec.builder, {**flavour, **settings})))
        facts.append(("backbone", _call(spec.backbone, spec.backbone_settings)))
    classes = spec.classes if classes is None else classes
    if spec.num_classes is None:
        facts.append(("classes", "none: give load() num_classes="))
    else:
        names = "of no known names" if classes.names is None else ", ".join(classes.names)
        facts.append(("classes", f"{spec.num_classes}, {names}; {classes.ignore_label} is ignored"))
    if classes.colors is not None:
        facts.append(("colours", ", ".join("#{:02x}{:02x}{:02x}".format(*color) for color in classes.colors)))
    if spec.output_stride is not None:
        facts.append(("output stride", f"{spec.output_stride}" + ("" if own else ", or what load() is asked for")))
    facts.append(("channels", spec.channels))
    if spec.widths:
        widths = ", ".join(f"{name} {width}" for name, width in spec.widths.items())
        facts.append(("pruned", f"{len(spec.widths)} convolutions have other widths: {shown(widths, 200)}"))
    if spec.image_range is not None:
        facts.append(("image range", range_text(spec.image_range)))
    # A plain model's record can't tell.
    if spec.builder is not None:
        facts.append(("preprocessing", preprocessing.told(spec.preprocessing)))
    facts.append(("resize", spec.resize))
    if own:
        stride = "" if spec.logits_stride is None else f" at stride {spec.logits_stride}"
        outputs = ", ".join(spec.outputs) + stride
        facts.append(("outputs", f"{outputs}, {spec.activation}" if spec.activation else outputs))
    return facts


def _is_optional(name, array, plan):
    path = next(iter(renamed({name: array.shape}, plan.rows, plan.dialect)), name)
    return bool(plan.optional and re.fullmatch(plan.optional, path))


def _call(name, settings):
    arguments = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return f"{name}({arguments})" if arguments else name


def _scopes(arrays):
    """The first parts of the names, with the number of arrays under each."""
    counts = {}
    for name in arrays:
        scope = re.split(r"[./]", name)[0]
        counts[scope] = counts.get(scope, 0) + 1
    listed = [f"{scope} ({count})" for scope, count in counts.items()]
    return ", ".join(listed[:12] + [f"{len(listed) - 12} more"] * (len(listed) > 12))


def _hint(arrays):
    """What the arrays may be instead: a backbone's, if all of them have names of one."""
    shapes = {name: array.shape for name, array in arrays.items()}
    fits = []
    for backbone, ways in applications.WAYS.items():
        for table, dialect, left_out, _ in ways:
            ignored = f"{dialect.ignored}|{left_out}"
            names = {name: shape for name, shape in shapes.items() if not re.fullmatch(ignored, name)}
            if names and len(renamed(names, table, dialect)) == len(names):
                fits.append(backbone)
                break
    if not fits:
        return []
    return [("perhaps", f"weights of a backbone, which backbone_weights= takes; so are called {', '.join(fits)}")]


# Files of Keras with a network --------------------------------------------------------------------------------------


def _own(stored):
    """(title, text) of a network that a file of Keras holds: its configuration is read, not built."""
    spec = own.record(stored)
    config = json.loads(stored.network)
    inner = config["config"]
    layers = {layer["config"]["name"]: layer for layer in inner.get("layers", [])}
    classes = {layer["class_name"] for layer in layers.values()}
    facts = [
        ("source", "keras: this package" if spec is not None or "ResizeBilinear" in classes else "keras"),
        ("network", f"{inner.get('name')}, {config['class_name']} of {len(layers)} layers"),
    ]
    if spec is not None:
        return facts + _record(spec, own=True)
    scores = class_layers(name for name, layer in layers.items() if "filters" in layer["config"])
    if scores:
        facts.append(("classes", f"{layers[scores[0]]['config']['filters']}, of no known names"))
        facts.append(("output stride", own.stride_of_head(inner["layers"])))
    return facts


# The list of arrays -----------------------------------------------------------------------------------------------


def _table(arrays, columns):
    """Lines of names, shapes and types, no wider than the terminal; names are shortened in their middle."""
    rows = [(name, "x".join(map(str, array.shape)) or "scalar", str(array.dtype)) for name, array in arrays.items()]
    shape, dtype = (max((len(row[i]) for row in rows), default=0) for i in (1, 2))
    room = max(columns - shape - dtype - 4, 16)
    width = min(room, max((len(name) for name, *_ in rows), default=0))
    return [f"{_shorten(name, width).ljust(width)}  {size.rjust(shape)}  {kind}" for name, size, kind in rows]


def _shorten(text, width):
    """
    >>> _shorten("backbone.layer1.0.conv1.weight", 20)
    'backbone....1.weight'
    """
    if len(text) <= width:
        return text
    half = (width - 3) // 2
    return f"{text[: width - 3 - half]}...{text[-half:]}"
