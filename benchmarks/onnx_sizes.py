#!/usr/bin/env python3
"""Runs ONNX files in ONNX Runtime at 40 sizes, odd and even, square or not, and prints how far they are from the model.

    python benchmarks/onnx_sizes.py [--networks PATTERN] [--sizes 40]

Each network has random weights and statistics of batch norm, scaled so that features keep their size. Its file of any
size is run at every size on a random picture; networks with a decoder are exported at six fixed sizes as well. A line
for each is printed as soon as it ran: the largest difference of logits, as a share of their range.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from randomise import randomise

FIXED = (97, 225, 289, 417, 449, (225, 321))


def _classifier(name):
    def build():
        import keras

        return getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(None, None, 3))

    return build


# Name: builder, backbone (a key, or a function that gives a classifier), further arguments, and whether it is exported
# at the fixed sizes too.
NETWORKS = {
    "v1 VGG-11": ("DeepLabV1", "vgg11_caffe", {"filters": 64}, False),
    "v2 ResNet-50": ("DeepLabV2", "resnet50_caffe", {"output_stride": 8}, False),
    "v3 MobileNetV2": ("DeepLabV3", "mobilenet_v2", {}, False),
    "v3 MobileNetV3 (lite R-ASPP)": ("DeepLabV3", "mobilenet_v3_small_seg", {}, False),
    "v3 ResNet-18, torchvision's head": ("DeepLabV3", "resnet18", {"flavour": "torchvision"}, False),
    "v3 EfficientNetB0": ("DeepLabV3", _classifier("EfficientNetB0"), {}, False),
    "v3 EfficientNetV2B0": ("DeepLabV3", _classifier("EfficientNetV2B0"), {}, False),
    "v3 ConvNeXtTiny": ("DeepLabV3", _classifier("ConvNeXtTiny"), {}, False),
    "v3+ MobileNetV2": ("DeepLabV3Plus", "mobilenet_v2", {}, True),
    "v3+ MobileNetV2, VainF's head": ("DeepLabV3Plus", "mobilenet_v2_vainf", {"flavour": "vainf"}, False),
    "v3+ Xception-41": ("DeepLabV3Plus", "xception_41", {}, False),
    "v3+ DRN-D-22": ("DeepLabV3Plus", "drn_d_22", {"output_stride": 8}, False),
}


def sizes(count):
    """So many sizes (height, width) from 65 to about 330: half of them square, half of either kind odd."""
    squares = [(65 + 13 * index,) * 2 for index in range(count // 2)]
    return squares + [(66 + 13 * index, 323 - 11 * index) for index in range(count - len(squares))]


def build(name):
    import keras_deeplab

    builder, backbone, settings, _ = NETWORKS[name]
    model = getattr(keras_deeplab, builder)(backbone() if callable(backbone) else backbone, num_classes=5, **settings)
    return randomise(model)


def largest_difference(model, path, wanted):
    """Of a file at all of `wanted`, in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    worst = 0.0
    for index, size in enumerate(wanted):
        images = np.random.default_rng(index).integers(0, 256, (1, *size, 3)).astype(np.float32)
        expected = model(images, training=False).numpy()
        (found,) = session.run(None, {source.name: images})
        if found.shape != expected.shape:
            raise ValueError(f"{path} gives {found.shape} at {size}, the model {expected.shape}")
        worst = max(worst, float(np.max(np.abs(found - expected)) / np.ptp(expected)))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="", help="part of a name")
    parser.add_argument("--sizes", type=int, default=40)
    options = parser.parse_args()
    from keras_deeplab.export.onnx import export_onnx

    wanted = sizes(options.sizes)
    print("| network | file | sizes | largest difference | seconds |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for name, (*_, fixed) in NETWORKS.items():
            if options.networks not in name:
                continue
            model = build(name)
            for size in (None, *(FIXED if fixed else ())):
                began = time.perf_counter()
                written = export_onnx(model, path, input_size=size, output="logits")
                at = wanted if size is None else [written.input_size]
                worst = largest_difference(model, path, at)
                kind = "any size" if size is None else "{}x{}".format(*written.input_size)
                print(f"| {name} | {kind} | {len(at)} | {worst:.1e} | {time.perf_counter() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
