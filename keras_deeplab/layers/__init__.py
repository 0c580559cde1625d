"""Layers that Keras lacks or runs slowly: dilated convolutions and pools at stride 1, bilinear resizes.

The convolutions have the variables of the Keras layers they stand in for. On the TensorFlow backend their forward pass
is one native operator at any size, known or not (Keras's own dilated layers go through space-to-batch there), and their
gradients are this package's, because TensorFlow's CPU has none for some types and a silently wrong one for depthwise
kernels. Other backends take Keras's path. `docs/dilated_convolution.md` has the timings and what lies behind them.

Every class is registered under the package name `keras_deeplab`, so a `.keras` file that holds them reloads without
`custom_objects` once this package has been imported.
"""

from keras_deeplab.layers.argmax import resized_argmax
from keras_deeplab.layers.clip import Clip
from keras_deeplab.layers.dilated_convolutions import DilatedConv2D, DilatedDepthwiseConv2D, DilatedSeparableConv2D
from keras_deeplab.layers.fake_quantization import FakeQuantization
from keras_deeplab.layers.grouped_convolutions import GroupedConv2D
from keras_deeplab.layers.pools import DilatedAveragePooling2D, DilatedMaxPooling2D, WindowedAveragePooling2D
from keras_deeplab.layers.resizes import ResizeBilinear, ScaleBilinear, UpsampleNearest
from keras_deeplab.layers.scale import LayerScale
from keras_deeplab.layers.tracing import export_ops

__all__ = [
    "Clip",
    "DilatedAveragePooling2D",
    "DilatedConv2D",
    "DilatedDepthwiseConv2D",
    "DilatedMaxPooling2D",
    "DilatedSeparableConv2D",
    "FakeQuantization",
    "GroupedConv2D",
    "LayerScale",
    "ResizeBilinear",
    "ScaleBilinear",
    "UpsampleNearest",
    "WindowedAveragePooling2D",
    "export_ops",
    "resized_argmax",
]
