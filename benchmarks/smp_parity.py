"""Runs segmentation_models.pytorch's own networks beside ours, encoder by encoder, and prints what differs.

Each is filled from a seed, saved by its `save_pretrained`, loaded, compared at 48x80 (odd multiples of its stride) and
64x32, and written back into it strictly and compared again. The smallest of a family is tried with both architectures
at both output strides, DeepLab v3's inner modules at odd sizes besides; the others with v3+ at 16.

    pip install -e ".[peers]"
    python benchmarks/smp_parity.py                  # every encoder, about an hour on two cores
    python benchmarks/smp_parity.py efficientnet-b0  # those whose names begin so
    python benchmarks/smp_parity.py --rounding mobileone_s4  # how far float32 is from the package in float64
"""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import keras
import smp_peer

V3, PLUS = "DeepLabV3", "DeepLabV3Plus"
EVERY = [(PLUS, 16), (PLUS, 8), (V3, 8), (V3, 16)]
# family: encoders, the smallest first
FAMILIES = {
    "ResNet": [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)],
    "ResNet of timm": [f"tu-resnet{depth}" for depth in (18, 34, 50, 101, 152)],
    "ResNeXt": [f"resnext{name}" for name in ("50_32x4d", "101_32x4d", "101_32x8d", "101_32x16d")],
    "ResNeXt of timm": [f"tu-resnext{name}" for name in ("50_32x4d", "101_32x4d", "101_32x8d", "101_64x4d")],
    "SE-ResNet": ["se_resnet50", "se_resnet101", "se_resnet152"],
    "SE-ResNeXt": ["se_resnext50_32x4d", "se_resnext101_32x4d"],
    "SENet": ["senet154"],
    "SE-ResNet of timm": [f"tu-seresnet{depth}" for depth in (18, 34, 50, 101, 152)],
    "ResNet-D of timm": [f"tu-resnet{depth}d" for depth in (18, 26, 34, 50, 101, 152, 200)],
    "ResNet of timm, tiered stem": [f"tu-resnet{depth}t" for depth in (10, 14, 26, 50)],
    "ResNet of timm, deep stem": [f"tu-resnet{name}" for name in ("50c", "101c", "152c", "50s", "101s", "152s")],
    "ResNet of timm, other depths and widths": ["tu-resnet26", "tu-resnet200"]
    + ["tu-wide_resnet50_2", "tu-wide_resnet101_2"],
    "SE-ResNet-D of timm": ["tu-seresnet50t", "tu-seresnet152d", "tu-seresnet200d"],
    "ResNeSt": [f"timm-resnest{name}" for name in ("14d", "26d", "50d", "101e", "200e")] + ["tu-resnest14d"],
    "Res2Net": [f"timm-res2net{name}" for name in ("50_26w_4s", "50_26w_6s", "50_26w_8s", "50_48w_2s", "50_14w_8s")]
    + ["timm-res2net101_26w_4s", "timm-res2next50", "tu-res2net50d", "tu-res2net101d"],
    "SE-ResNeXt of timm": [f"tu-seresnext{name}" for name in ("50_32x4d", "101_32x4d", "101_32x8d", "101_64x4d")],
    "MobileNetV2": ["mobilenet_v2"],
    "MobileNetV3, symmetric": [f"tu-mobilenetv3_{name}" for name in ("small_050", "small_075", "small_100")]
    + [f"tu-mobilenetv3_{name}" for name in ("large_075", "large_100")],
    "MobileNetV3, TensorFlow's": [f"tu-tf_mobilenetv3_{name}" for name in ("small_075", "large_075")]
    + [f"timm-mobilenetv3_{size}_{form}100" for size in ("small", "large") for form in ("", "minimal_")],
    "EfficientNet, lukemelas": [f"efficientnet-b{n}" for n in range(8)],
    "EfficientNet, its own of timm": [f"timm-efficientnet-b{n}" for n in range(8)],
    "EfficientNet Lite, its own": [f"timm-tf_efficientnet_lite{n}" for n in range(5)],
    "EfficientNet, symmetric": [f"tu-efficientnet_b{n}" for n in range(8)],
    "EfficientNet, TensorFlow's": [f"tu-tf_efficientnet_b{n}" for n in range(8)],
    "EfficientNet Lite of timm": ["tu-efficientnet_lite0", "tu-tf_efficientnet_lite0", "tu-tf_efficientnet_lite4"],
    "MobileOne": [f"mobileone_s{n}" for n in range(5)],
    "MobileOne, one convolution a block": ["mobileone_s0:reparameterized", "mobileone_s4:reparameterized"],
    "ConvNeXt": [f"tu-convnext_{name}" for name in ("atto", "femto", "pico", "nano", "tiny", "small", "base", "large")],
    "RegNet X": [
        f"tu-regnetx_{name}"
        for name in ["002", "004", "006", "008", "016", "032", "040", "064", "080", "120", "160", "320"]
    ],
    "RegNet Y": [
        f"tu-regnety_{name}"
        for name in ["002", "004", "006", "008", "016", "032", "040", "064", "080", "120", "160", "320"]
    ],
    "Xception": ["tu-xception41", "tu-xception65", "tu-xception71"],
}
SIZES = [(48, 80), (64, 32)]
ODD = [(65, 97), (50, 39)]


def row(architecture, encoder, output_stride):
    """(our backbone, largest difference, likewise once it has our weights, or None, at odd sizes)"""
    name, _, form = encoder.partition(":")
    settings = {"reparameterized": True} if form else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = smp_peer.network(architecture, name, encoder_output_stride=output_stride, **settings)
        with tempfile.TemporaryDirectory() as folder:
            ours = smp_peer.loaded(theirs, folder)
    largest = smp_peer.difference(theirs, ours, SIZES)
    odd = smp_peer.inner_difference(theirs, ours, ODD) if architecture == V3 else None
    smp_peer.written_back(ours, theirs)
    return ours.spec.backbone, largest, smp_peer.difference(theirs, ours, SIZES[:1]), odd


def rounded(encoder):
    """`smp_peer.rounding` of an encoder, with v3+ at output stride 16."""
    name, _, form = encoder.partition(":")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        settings = {"reparameterized": True} if form else {}
        theirs = smp_peer.network(PLUS, name, encoder_output_stride=16, **settings)
        return smp_peer.rounding(theirs, folder, SIZES)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="*", help="beginnings of encoders' names")
    parser.add_argument("--once", action="store_true", help="each with v3+ at output stride 16 alone")
    parser.add_argument("--rounding", action="store_true", help="of what is loaded, float32 and float64 on both sides")
    arguments = parser.parse_args()
    if arguments.rounding:
        print("all from the package in float64:\n| encoder | its float32 | ours | ours in float64 |\n|---|---|---|---|")
        for encoder in (each for encoders in FAMILIES.values() for each in encoders):
            if encoder.startswith(tuple(arguments.prefix)) or not arguments.prefix:
                print(f"| `{encoder}` | {' | '.join(f'{each:.1e}' for each in rounded(encoder))} |", flush=True)
        return
    print("| family | encoder | architecture | stride | backbone here | difference | written back | odd sizes | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for family, encoders in FAMILIES.items():
        for encoder in encoders:
            if arguments.prefix and not encoder.startswith(tuple(arguments.prefix)):
                continue
            for architecture, stride in EVERY if encoder == encoders[0] and not arguments.once else EVERY[:1]:
                begin = time.perf_counter()
                backbone, *differences = row(architecture, encoder, stride)
                shown = " | ".join("-" if value is None else f"{value:.1e}" for value in differences)
                seconds = time.perf_counter() - begin
                print(
                    f"| {family} | `{encoder}` | {architecture} | {stride} | `{backbone}` | {shown} | {seconds:.0f} |",
                    flush=True,
                )
                keras.backend.clear_session()


if __name__ == "__main__":
    main()
