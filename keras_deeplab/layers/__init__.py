"""Layers that Keras lacks or runs slowly: dilated convolutions and pools, batch norm, bilinear resizes, patches.

The convolutions have the variables of the Keras layers they stand in for. On the TensorFlow backend their forward pass
is one native operator at any size, known or not (Keras's own dilated layers go through space-to-batch there), and their
gradients are this package's, because TensorFlow's CPU has none for some types and a silently wrong one for depthwise
kernels. Other backends take Keras's path. `docs/dilated_convolution.md` has the timings and what lies behind them.

Every class is registered under the package name `keras_deeplab`, so a `.keras` file that holds them reloads without
`custom_objects` once this package has been imported.
"""

from keras_deeplab.layers.argmax import argmax_by_slabs, resized_argmax, slabs_of
from keras_deeplab.layers.batch_normalization import BatchNormalization
from keras_deeplab.layers.channels import ChannelSlice
from keras_deeplab.layers.clip import Clip
from keras_deeplab.layers.dilated_convolutions import DilatedConv2D, DilatedDepthwiseConv2D, DilatedSeparableConv2D
from keras_deeplab.layers.fake_quantization import FakeQuantization
from keras_deeplab.layers.grouped_convolutions import GroupedConv2D
from keras_deeplab.layers.patches import FoldPatches, LinearPatchAttention, PatchAttention, UnfoldPatches
from keras_deeplab.layers.pools import DilatedAveragePooling2D, DilatedMaxPooling2D, WindowedAveragePooling2D
from keras_deeplab.layers.resizes import (
    ResizeBilinear,
    ScaleBilinear,
    UpsampleNearest,
    before_resize,
    convention,
    conventions,
    resize_bilinear,
)
from keras_deeplab.layers.scale import LayerScale
from keras_deeplab.layers.tracing import export_ops

__all__ = [
    "BatchNormalization",
    "ChannelSlice",
    "Clip",
    "DilatedAveragePooling2D",
    "DilatedConv2D",
    "DilatedDepthwiseConv2D",
    "DilatedMaxPooling2D",
    "DilatedSeparableConv2D",
    "FakeQuantization",
    "FoldPatches",
    "GroupedConv2D",
    "LayerScale",
    "LinearPatchAttention",
    "PatchAttention",
    "ResizeBilinear",
    "ScaleBilinear",
    "UnfoldPatches",
    "UpsampleNearest",
    "WindowedAveragePooling2D",
    "argmax_by_slabs",
    "before_resize",
    "convention",
    "conventions",
    "export_ops",
    "resize_bilinear",
    "resized_argmax",
    "slabs_of",
]
