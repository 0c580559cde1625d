"""A network to a narrower one, whose file, record and everything behind it are those of any other network."""

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from keras_deeplab.models.widths import with_widths
from keras_deeplab.pruning.channels import Channels, channels, cut, kept_inputs
from keras_deeplab.pruning.moments import order, second_moments, stood_in
from keras_deeplab.specs.model import SegmentationModel


def kept_of(size: int, share: float) -> int:
    """How many of `size` channels are left when about a `share` of them goes: multiples of what processors like.

    >>> kept_of(256, 0.5), kept_of(96, 0.3), kept_of(20, 0.5), kept_of(4, 0.9), kept_of(16, 0.0)
    (128, 64, 8, 1, 16)
    """
    step = 8 if size >= 32 else 4 if size >= 16 else 1
    return size if share <= 0 else min(size, max(step, int(size * (1 - share)) // step * step))


class Pruning:
    """A network, the channels of it that may go, and what photographs say of them.

    Args:
        model: functional `keras.Model`; it isn't changed.
        images: photographs like those it is for, float32 (1, H, W, channels) in 0..255; a few dozen do. No labels.

    Attributes:
        channels: `Channels`.
        orders: {group: its channels, the one first that is missed least}.

    Raises:
        ValueError: no channel may go, or as `channels` has it.
    """

    def __init__(self, model: keras.Model, images: Iterable[np.ndarray]) -> None:
        self.model = model
        self.channels: Channels = channels(model)
        groups = self.channels.groups
        if not groups:
            raise ValueError(
                f"no channels of {model.name!r} may go: all are those of sums, of grouped or separable convolutions, "
                "or of layers that nothing is known of"
            )
        self.moments = second_moments(model, self.channels, images)
        self.kernels = {name: model.get_layer(name).kernel.numpy() for name in self.moments}
        self.orders = {name: order(group, self.kernels, self.moments) for name, group in groups.items()}

    def kept(self, shares: Mapping[str, float]) -> dict[str, np.ndarray]:
        """{group: which of its channels are left, ascending} where about so large a share of each goes.

        Raises:
            ValueError: there is no such group, or a share isn't in 0..1.
        """
        unknown = sorted(shares.keys() - self.orders.keys())
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no group of channels that may go; those are {', '.join(self.orders)}")
        if any(not 0 <= share < 1 for share in shares.values()):
            raise ValueError(f"shares must be at least 0 and below 1; received {dict(shares)}")
        found = {}
        for name, share in shares.items():
            size = len(self.orders[name])
            count = kept_of(size, share)
            if count < size:
                found[name] = np.sort(self.orders[name][size - count :])
        return found

    def masked(self, kept: Mapping[str, np.ndarray], stand_in: bool = True) -> dict[str, np.ndarray]:
        """The kernels, by convolution, with which the network of all channels computes what the narrow one does.

        Args:
            kept: which channels are left, by group.
            stand_in: whether those that are left carry what the others did, as far as they can.
        """
        changed: dict[str, np.ndarray] = {}
        for name, left in kept.items():
            group = self.channels.groups[name]
            for taker, first in group.takers.items():
                kernel = changed.get(taker, self.kernels[taker])
                if stand_in:
                    changed[taker] = stood_in(group, taker, kernel, np.asarray(left), self.moments)
                else:
                    changed[taker] = kernel.copy()
                    changed[taker][:, :, first + np.setdiff1d(np.arange(group.size), left)] = 0
        return changed

    def narrow(self, kept: Mapping[str, np.ndarray], stand_in: bool = True) -> SegmentationModel:
        """The network without the channels that aren't kept: to rounding, what `masked` makes of the whole one."""
        widths = {maker: len(left) for name, left in kept.items() for maker in self.channels.groups[name].makers}
        narrow = with_widths(self.model, widths)
        kernels = self.masked(kept, stand_in)
        for layer in self.model.layers:
            if not layer.weights:
                continue
            arrays = layer.get_weights()
            if layer.name in self.channels.inputs:
                if layer.name in kernels:
                    arrays[0] = kernels[layer.name]
                inner = kept_inputs(self.channels, layer.name, kept)
                outer = kept.get(self.channels.outputs.get(layer.name, ""))
                arrays = cut(arrays, _kind(layer), inner, outer)
            narrow.get_layer(layer.name).set_weights(arrays)
        return narrow


def _kind(layer):
    if isinstance(layer, keras.layers.BatchNormalization):
        return "norm"
    return "depthwise" if isinstance(layer, keras.layers.DepthwiseConv2D) else "convolution"
