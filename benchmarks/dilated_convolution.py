"""Times dilated convolutions: the Keras layer, this package's layer and PyTorch, forward and forward with backward.

    python benchmarks/dilated_convolution.py [--rounds 15] [--only dense]

Every round runs each contender once, one after another, so that other load on the machine meets all of them; the table
shows each one's fastest round in milliseconds and, in brackets, this package's share of it: below 1 it is faster.
TensorFlow runs in a graph (`tf.function`, no XLA), PyTorch eagerly with channels last; both with all the CPU's threads.
"""

import argparse
import functools
import importlib.util
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab.layers import DilatedConv2D, DilatedDepthwiseConv2D

# Kind, map size, channels in, filters (dense only), rate. What has this shape.
ROWS = (
    ("dense", 33, 2048, 256, 6),  # ASPP on ResNet at 513x513, output stride 16
    ("dense", 33, 2048, 256, 12),
    ("dense", 33, 2048, 256, 18),
    ("dense", 33, 320, 256, 12),  # ASPP on MobileNetV2
    ("dense", 65, 512, 512, 4),  # ResNet's last stage, output stride 8
    ("depthwise", 33, 960, None, 2),  # MobileNetV2's last blocks, output stride 16
    ("depthwise", 65, 728, None, 2),  # Xception's middle flow, output stride 8
    ("depthwise", 33, 2048, None, 6),  # separable ASPP on Xception
    ("depthwise", 33, 2048, None, 18),
)


def tensorflow_steps(kind, layer_class, size, channels, filters, rate):
    """The forward and the forward-and-backward step as callables without arguments."""
    arguments = (filters, 3) if kind == "dense" else (3,)
    layer = layer_class(*arguments, padding="same", dilation_rate=rate, use_bias=False)
    x = tf.random.normal((1, size, size, channels))
    dy = tf.random.normal(layer(x).shape)

    @tf.function(jit_compile=False)
    def forward():
        return layer(x)

    @tf.function(jit_compile=False)
    def forward_and_backward():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, [x, layer.kernel.value], dy)

    return forward, forward_and_backward


def torch_steps(kind, size, channels, filters, rate):
    """The same two in PyTorch."""
    import torch

    groups = 1 if kind == "dense" else channels
    layer = torch.nn.Conv2d(
        channels, filters or channels, 3, padding=rate, dilation=rate, groups=groups, bias=False
    ).to(memory_format=torch.channels_last)
    x = torch.randn(1, channels, size, size).to(memory_format=torch.channels_last).requires_grad_()
    with torch.no_grad():
        dy = torch.randn_like(layer(x))

    def forward():
        with torch.no_grad():
            layer(x)

    def forward_and_backward():
        layer.zero_grad()
        x.grad = None
        layer(x).backward(dy)

    return forward, forward_and_backward


def fastest(steps, rounds):
    """The minimum over `rounds` of each step's milliseconds; the steps take turns."""
    best = np.full(len(steps), np.inf)
    for round_number in range(-2, rounds):  # two to warm up
        for index, step in enumerate(steps):
            start = time.perf_counter()
            step()
            if round_number >= 0:
                best[index] = min(best[index], 1000 * (time.perf_counter() - start))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds per row, of which the fastest counts")
    parser.add_argument("--only", choices=("dense", "depthwise"), help="leave the other kind out")
    options = parser.parse_args()

    has_torch = importlib.util.find_spec("torch") is not None
    versions = [f"TensorFlow {tf.__version__}", f"Keras {keras.__version__}"]
    versions.append(f"PyTorch {importlib.import_module('torch').__version__}" if has_torch else "PyTorch not installed")
    print(f"{', '.join(versions)}; {os.cpu_count()} CPU threads; minima of {options.rounds} rounds, milliseconds\n")
    print("| kernel 3x3 | map | rate | pass | Keras | keras_deeplab | PyTorch |")
    print("|---|---|---|---|---|---|---|")
    for kind, size, channels, filters, rate in ROWS:
        if options.only not in (None, kind):
            continue
        keras_class, our_class = {
            "dense": (keras.layers.Conv2D, DilatedConv2D),
            "depthwise": (keras.layers.DepthwiseConv2D, DilatedDepthwiseConv2D),
        }[kind]
        make = functools.partial(tensorflow_steps, kind, size=size, channels=channels, filters=filters, rate=rate)
        contenders = [make(layer_class=keras_class), make(layer_class=our_class)]
        if has_torch:
            contenders.append(torch_steps(kind, size, channels, filters, rate))
        shape = f"{kind} {channels}" + (f" -> {filters}" if filters else "")
        for index, name in enumerate(("forward", "forward + backward")):
            times = fastest([steps[index] for steps in contenders], options.rounds)
            ours = times[1]
            cells = [f"{other:.1f} ({ours / other:.2f})" for other in times]
            cells[1] = f"**{ours:.1f}**"
            cells += ["-"] * (3 - len(cells))
            print(f"| {shape} | {size}x{size} | {rate} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
