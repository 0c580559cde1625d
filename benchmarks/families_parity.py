"""How far loaded networks lie from the code that published them, family by family: a table.

    python benchmarks/families_parity.py [FAMILY ...]        torchvision mmsegmentation paddleseg detectron2

torchvision runs itself. MMSegmentation, PaddleSeg and Detectron2 need packages that many systems lack a wheel of: their
networks
are the small PyTorch modules in tests/, written after the rules of their published code. Weights and batch
norm's statistics are random, of one seed; images are noise, of an odd and an even size; the difference is that of the
logits, in parts of their range. Widths of the backbones are those published, 16 filters in the heads.
"""

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


def torchvision():
    """LRASPP, and DeepLabV3 on its backbones, with the auxiliary head."""
    peers.torchvision()
    from torchvision.models import segmentation

    def outputs(network):
        return lambda images: list(network(images).values())

    for name in ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50"):
        settings = {} if name.startswith("lraspp") else {"aux_loss": True}
        network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5, **settings)
        yield name, peers.randomised(network), outputs(network), peers.state_of, bool(settings)


def mmsegmentation():
    """DeepLabV3 and V3+ with the auxiliary head on every backbone of its configurations."""
    from mmsegmentation_networks import MobileNetV2, ResNet, Segmentor

    bodies = {
        f"r{depth}{'b' * (variant == '')}{'-v1d' * (variant == 'v1d')}-d8": (lambda d=depth, v=variant: ResNet(d, v))
        for depth in (18, 50, 101)
        for variant in ("v1c", "", "v1d")
        if (depth, variant) != (18, "v1d")
    }
    bodies["m-v2-d8"] = MobileNetV2
    for body, build in bodies.items():
        for plus in (False, True):
            network = peers.randomised(Segmentor(build(), plus, CHANNELS, auxiliary=CHANNELS))
            name = f"deeplabv3{'plus' * plus}_{body}"
            yield name, network, network, peers.state_of, True


def paddleseg():
    """DeepLabV3 and V3P on ResNet-D."""
    from paddleseg_networks import DeepLab, ResNetVd, state_of

    for depth in (50, 101):
        for plus in (False, True):
            network = peers.randomised(DeepLab(ResNetVd(depth), plus, CHANNELS))
            yield f"deeplabv3{'p' * plus}_resnet{depth}_vd_os8", network, network, state_of, False


def detectron2():
    """DeepLabV3 and V3Plus on ResNets with DeepLab's stem, and with torchvision's and MSRA's strides."""
    from detectron2_networks import ResNet, Segmentor

    for depth, deep in ((50, True), (101, True), (50, False)):
        for plus in (False, True):
            network = peers.randomised(Segmentor(ResNet(depth, deep, stride_in_1x1=not deep), plus, CHANNELS))
            told = {} if deep else {"backbone": f"resnet{depth}_msra"}
            body = f"R_{depth + 2}" if deep else f"R_{depth}_msra"
            yield f"deeplab_v3{'_plus' * plus}_{body}_os16_mg124", network, network, peers.state_of, told


FAMILIES = {
    "torchvision": torchvision,
    "mmsegmentation": mmsegmentation,
    "paddleseg": paddleseg,
    "detectron2": detectron2,
}


def row(source, name, network, outputs, state_of, told):
    """A line of the table: the largest difference, and whether the arrays come back bit for bit."""
    settings = {"auxiliary_head": True} if told is True else dict(told or {})
    state = state_of(network)
    start = time.perf_counter()
    model = keras_deeplab.load(state, include_preprocessing=False, **settings)
    seconds = time.perf_counter() - start
    worst = peers.difference(model, outputs)
    suffix = ".pdparams" if source == "paddleseg" else ".pth"
    with tempfile.TemporaryDirectory() as folder:
        back = keras_deeplab.export_weights(model, Path(folder) / f"model{suffix}", source)
    same = back.keys() == state.keys() and all((back[key] == state[key]).all() for key in state)
    return f"| {source} | {name} | {worst:.1e} | {'equal' if same else 'DIFFERENT'} | {seconds:.1f} |"


if __name__ == "__main__":
    print("| family | network | largest difference | written back | load, s |\n|---|---|---|---|---|")
    for source in sys.argv[1:] or FAMILIES:
        for found in FAMILIES[source]():
            print(row(source, *found), flush=True)
            del found
            keras.backend.clear_session()
            gc.collect()
