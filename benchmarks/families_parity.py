"""How far loaded networks lie from the code that published them, family by family: a table.

    python benchmarks/families_parity.py [FAMILY ...] [--only TEXT]     torchvision mmsegmentation paddleseg detectron2

torchvision runs itself. MMSegmentation, PaddleSeg and Detectron2 need packages that many systems lack a wheel of: their
networks are the small PyTorch modules in tests/, written after the rules of their published code. Weights and batch
norm's statistics are random, of one seed; images are noise, of an odd and an even size; the difference is that of the
logits, in parts of their range. Backbones have their published widths, heads 16 filters.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import keras
import peers

import keras_deeplab

CHANNELS = 16
# A family gives the names of its networks with functions that make them: the module, what computes its outputs, its
# state and the settings that `load` is given.


def torchvision():
    """LRASPP, and DeepLabV3 with the auxiliary head."""
    peers.torchvision()
    from torchvision.models import segmentation

    def made(name, **settings):
        network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5, **settings)
        peers.randomised(network)
        told = {"auxiliary_head": True} if settings else {}
        return network, lambda images: list(network(images).values()), peers.state_of(network), told

    yield "lraspp_mobilenet_v3_large", lambda: made("lraspp_mobilenet_v3_large")
    for name in ("deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50"):
        yield name, lambda name=name: made(name, aux_loss=True)


def mmsegmentation():
    """DeepLabV3 and V3+ with the auxiliary head on the backbones of its configurations, and on V1d."""
    from mmsegmentation_networks import MobileNetV2, ResNet, Segmentor

    grid = {"multi_grid": (1, 1)}  # what its published networks differ in has to be said

    def made(plus, body, *arguments):
        network = peers.randomised(Segmentor(body(*arguments), plus, CHANNELS, auxiliary=CHANNELS))
        return network, network, peers.state_of(network), {"auxiliary_head": True, "align_corners": False, **grid}

    bodies = {f"r{depth}-d8": (ResNet, depth, "v1c") for depth in (18, 50, 101)}
    bodies |= {f"r{depth}b-d8": (ResNet, depth, "") for depth in (18, 50, 101)}
    bodies |= {"r50-v1d-d8": (ResNet, 50, "v1d"), "m-v2-d8": (MobileNetV2,)}
    for name, body in bodies.items():
        for plus in (False, True):
            yield f"deeplabv3{'plus' * plus}_{name}", lambda plus=plus, body=body: made(plus, *body)


def paddleseg():
    """DeepLabV3 and V3P on ResNet-D."""
    from paddleseg_networks import DeepLab, ResNetVd, state_of

    def made(plus, depth):
        network = peers.randomised(DeepLab(ResNetVd(depth), plus, CHANNELS))
        return network, network, state_of(network), {"align_corners": False}

    for depth in (50, 101):
        for plus in (False, True):
            name = f"deeplabv3{'p' * plus}_resnet{depth}_vd_os8"
            yield name, lambda plus=plus, depth=depth: made(plus, depth)


def detectron2():
    """DeepLabV3 and V3Plus on ResNets with DeepLab's stem, and with torchvision's stem and MSRA's strides."""
    from detectron2_networks import ResNet, Segmentor

    def made(plus, depth, deep):
        network = peers.randomised(Segmentor(ResNet(depth, deep, stride_in_1x1=not deep), plus, CHANNELS))
        told = {} if deep else {"backbone": f"resnet{depth}_msra"}
        return network, network, peers.state_of(network), told

    for name, depth, deep in (("R_50_MSRA", 50, False), ("R_52", 50, True), ("R_103", 101, True)):
        for plus in (False, True):
            full = f"deeplab_v3{'_plus' * plus}_{name}_os16_mg124"
            yield full, lambda plus=plus, depth=depth, deep=deep: made(plus, depth, deep)


FAMILIES = {
    "torchvision": torchvision,
    "mmsegmentation": mmsegmentation,
    "paddleseg": paddleseg,
    "detectron2": detectron2,
}


def row(source, name, outputs, state, told):
    """A line of the table: the largest difference, and whether the arrays come back bit for bit."""
    start = time.perf_counter()
    model = keras_deeplab.load(state, include_preprocessing=False, **told)
    seconds = time.perf_counter() - start
    worst = peers.difference(model, outputs)
    suffix = ".pdparams" if source == "paddleseg" else ".pth"
    with tempfile.TemporaryDirectory() as folder:
        back = keras_deeplab.export_weights(model, Path(folder) / f"model{suffix}", source)
    same = back.keys() == state.keys() and all((back[key] == state[key]).all() for key in state)
    return f"| {source} | {name} | {worst:.1e} | {'equal' if same else 'DIFFERENT'} | {seconds:.1f} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--only", default="", metavar="TEXT", help="networks with it in their name")
    options = parser.parse_args()
    print("| family | network | largest difference | written back | load, s |\n|---|---|---|---|---|")
    for source in options.families or FAMILIES:
        for name, make in FAMILIES[source]():
            if options.only in name:
                _, outputs, state, told = make()
                print(row(source, name, outputs, state, told), flush=True)
                del outputs, state
                keras.backend.clear_session()
                gc.collect()
