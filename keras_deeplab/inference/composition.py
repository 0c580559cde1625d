"""From the options of inference to the strategy that they ask for: one around another."""

from collections.abc import Callable

from keras_deeplab.inference.runtimes.base import Runtime
from keras_deeplab.inference.settings import InferenceOptions
from keras_deeplab.inference.strategies import Padded, Resized, SeveralScales, Strategy, WholeImage, Windows
from keras_deeplab.inference.strategies.base import needs_scores

Layer = Callable[[Strategy, Runtime, InferenceOptions], Strategy]


def _windows(inner: Strategy, runtime: Runtime, settings: InferenceOptions) -> Strategy:
    if settings.windows is None or settings.window_steps is None:
        return inner
    return Windows(inner, runtime, settings.windows, settings.window_steps)


def _scales(inner: Strategy, runtime: Runtime, settings: InferenceOptions) -> Strategy:
    if not settings.several:
        return inner
    return SeveralScales(inner, runtime, settings.scales, settings.flip, settings.average)


def _padding(inner: Strategy, runtime: Runtime, settings: InferenceOptions) -> Strategy:
    if settings.input_size is None or inner.input_size == settings.input_size:
        return inner
    return Padded(inner, settings.input_size)


def _shorter_side(inner: Strategy, runtime: Runtime, settings: InferenceOptions) -> Strategy:
    if settings.shorter_side is None:
        return inner
    return Resized(inner, runtime, settings.shorter_side, settings.longer_side)


def _crf(inner: Strategy, runtime: Runtime, settings: InferenceOptions) -> Strategy:
    if settings.crf is None:
        return inner
    from keras_deeplab.inference.crf import Refined

    needs_scores(runtime, "crf")
    return Refined(inner, settings.crf)


# What is put around what puts images to the runtime, from the inside out: each is a function from (what it is put
# around, runtime, options) to a `Strategy`, to what it was given where its options don't ask for it. Another one is a
# file in strategies/, its options in `InferenceOptions`, and a row here.
LAYERS: dict[str, Layer] = {
    "windows": _windows,
    "scales": _scales,
    "padding": _padding,
    "shorter_side": _shorter_side,
    "crf": _crf,
}


def composed(runtime: Runtime, settings: InferenceOptions, base: Callable[..., Strategy] = WholeImage) -> Strategy:
    """The strategy that options ask for.

    Args:
        runtime: what it is for.
        settings: the options.
        base: function from the runtime and an input size to the strategy that puts images to it.

    Raises:
        ValueError: an option doesn't apply to this runtime.
    """
    # Scales and windows are of the padded image, so the padding is around them.
    around = settings.windows is not None or settings.scales != (1.0,)
    strategy = base(runtime, None if around else settings.input_size)
    for layer in LAYERS.values():
        strategy = layer(strategy, runtime, settings)
    return strategy
