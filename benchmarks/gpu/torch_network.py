"""A functional Keras model of a fixed size to the same network in PyTorch's own layers, with the same weights."""

import keras
import numpy as np
import torch
from torch import nn


class Network(nn.Module):
    """Images (B, 3, H, W) in 0..255 to logits (B, C, H, W), layer by layer as the Keras model has them.

    Symmetric padding is the convolution's own, as PyTorch's users write it, whether Keras has it as `"same"` or as a
    layer before. Raises ValueError at a layer that it doesn't know.
    """

    def __init__(self, model: keras.Model):
        super().__init__()
        self.steps, self.parts, pads = [], nn.ModuleDict(), {}
        for layer in model.layers:
            if isinstance(layer, keras.layers.InputLayer):
                self.first = id(layer.output)
                continue
            inputs = [id(tensor) for tensor in (layer.input if isinstance(layer.input, list) else [layer.input])]
            kind = type(layer).__name__
            if kind == "ZeroPadding2D":
                pads[id(layer.output)] = (inputs[0], layer.padding)
                continue
            before = ((0, 0), (0, 0))
            if inputs[0] in pads:
                inputs[0], before = pads[inputs[0]]
                if kind not in ("Conv2D", "DepthwiseConv2D", "DilatedConv2D", "DilatedDepthwiseConv2D", "MaxPooling2D"):
                    raise ValueError(f"{layer.name} ({kind}) stands behind a padding")
            self.parts[layer.name] = _part(layer, kind, before)
            self.steps.append((layer.name, inputs, id(layer.output)))
        self.last = id(model.output)

    def forward(self, images):
        values = {self.first: images}
        for name, inputs, output in self.steps:
            values[output] = self.parts[name](*(values[each] for each in inputs))
        return values[self.last]


def _part(layer, kind, before):
    if kind in ("Conv2D", "DilatedConv2D", "DepthwiseConv2D", "DilatedDepthwiseConv2D"):
        return _convolution(layer, before)
    if kind == "BatchNormalization":
        part = nn.BatchNorm2d(layer.gamma.shape[0], eps=layer.epsilon, momentum=1 - layer.momentum)
        names = ("weight", "bias", "running_mean", "running_var")
        for name, value in zip(names, (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance), strict=True):
            getattr(part, name).data.copy_(_tensor(value))
        return part
    if kind == "MaxPooling2D":
        # Behind a ReLU, where zeros and minus infinity are alike.
        return nn.MaxPool2d(layer.pool_size, layer.strides, padding=(before[0][0], before[1][0]))
    if kind == "Rescaling":
        return _Affine(layer.scale, layer.offset)
    if kind in ("Activation", "ReLU"):
        name = getattr(layer.activation, "__name__", "relu") if kind == "Activation" else "relu"
        known = {"relu": nn.ReLU(inplace=False), "relu6": nn.ReLU6(inplace=False), "linear": nn.Identity()}
        if name not in known:
            raise ValueError(f"{layer.name} has the activation {name}; known are {', '.join(known)}")
        return known[name]
    if kind == "Dropout":
        return nn.Dropout(layer.rate)
    if kind == "Add":
        return _Add()
    if kind == "Concatenate":
        return _Concatenate()
    if kind == "GlobalAveragePooling2D":
        return nn.AdaptiveAvgPool2d(1)
    if kind == "ResizeBilinear":
        return _Resize(layer.get_config()["align_corners"])
    raise ValueError(f"{layer.name} is a {kind}, which has no counterpart here")


def _convolution(layer, before):
    depthwise = "Depthwise" in type(layer).__name__
    kernel = np.asarray(layer.kernel)
    channels = layer.input.shape[-1]
    kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
    groups = channels if depthwise else layer.groups
    pads = []
    for axis, (low, high) in enumerate(before):
        size, stride, rate = layer.kernel_size[axis], layer.strides[axis], layer.dilation_rate[axis]
        if layer.padding == "same":
            side, reach = layer.input.shape[1 + axis], (size - 1) * rate + 1
            total = max((-(-side // stride) - 1) * stride + reach - side, 0)
            low, high = total // 2, total - total // 2
        if low != high:
            raise ValueError(f"{layer.name} pads {low} and {high} pixels: give sizes of the form 32 * k + 1")
        pads.append(low)
    part = nn.Conv2d(
        channels, kernel.shape[0], layer.kernel_size, layer.strides, tuple(pads), layer.dilation_rate, groups,
        bias=layer.use_bias,
    )  # fmt: skip
    part.weight.data.copy_(torch.from_numpy(kernel.copy()))
    if layer.use_bias:
        part.bias.data.copy_(_tensor(layer.bias))
    return part


class _Affine(nn.Module):
    def __init__(self, scale, offset):
        super().__init__()
        for name, value in (("scale", scale), ("offset", offset)):
            self.register_buffer(name, torch.tensor(np.reshape(np.float32(value), (1, -1, 1, 1))))

    def forward(self, x):
        return x * self.scale + self.offset


class _Add(nn.Module):
    def forward(self, *values):
        return sum(values[1:], values[0])


class _Concatenate(nn.Module):
    def forward(self, *values):
        return torch.cat(values, 1)


class _Resize(nn.Module):
    def __init__(self, align_corners):
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x, like):
        return nn.functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=self.align_corners)


def _tensor(variable):
    return torch.from_numpy(np.array(variable))
