"""Networks by name, as shapes without values, to count in."""

from typing import Any

from keras_deeplab import rewrite
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES, resolve
from keras_deeplab.models.build import build
from keras_deeplab.published import MODELS
from keras_deeplab.weights import opened, own


def open_network(name: Any, output_stride: int | None = None) -> Any:
    """A backbone's key, a published model's name or a `.keras` file to a model, for `receptive_field` and counts.

    Backbones and published models come without values. `output_stride` is for them; None leaves a backbone at its
    own stride, a published model at its source's.
    """
    if str(name).endswith(".keras"):
        if output_stride is not None:
            raise ValueError("output_stride is for backbones and published models; a .keras file has its own.")
        with opened(name) as stored:
            return own.network(stored)
    overrides = {} if output_stride is None else {"output_stride": output_stride}
    if name in MODELS:
        return skeleton(MODELS[name], **overrides)
    if name not in BACKBONES:
        raise ValueError(
            f"{name!r} is no .keras file, no published model ({', '.join(sorted(MODELS))}) and no backbone "
            f"({', '.join(sorted(BACKBONES))})."
        )
    with unallocated():
        row = BACKBONES[name]
        if row.output_strides is not None:
            return resolve(name, (None, None, 3), output_stride or max(row.output_strides))[0]
        model, _ = resolve(name, (None, None, 3))
        return rewrite.rewrite(
            model,
            output_stride,
            multi_grid=row.multi_grid if output_stride else None,
            strided_rate=row.strided_rate or "old",
            centred=row.centred,
            ahead=row.ahead,
            contracted=row.contracted if output_stride else (),
            dropped=row.dropped if output_stride else (),
        )


def skeleton(model: Any, **overrides: Any) -> Any:
    """A published model with shapes and no values."""
    with unallocated():
        return build(model.spec, name=model.name, **overrides)
