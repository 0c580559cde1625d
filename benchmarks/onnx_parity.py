"""ONNX files that other packages' networks were exported into, loaded as networks again, beside those networks.

    python benchmarks/onnx_parity.py [TEXT ...]      names that hold a text; all without one

Both of PyTorch's exporters write each network, with weights and batch norm's statistics from a seed, at 64x96; the
difference is the largest of the logits (PyTorch's against ours), in parts of their range, on an image of noise.
segmentation_models.pytorch, torchvision and transformers run themselves; MMSegmentation's and Detectron2's networks are
those of tests/, written after the rules of their code. It needs the extras `peers` and `onnx`, and onnxscript.
"""

import contextlib
import io
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SIZE = (64, 96)
ENCODERS = """
    resnet18 resnet50 resnext50_32x4d se_resnet50 mobilenet_v2 efficientnet-b0 timm-efficientnet-b0
    timm-mobilenetv3_large_100 tu-mobilenetv3_large_100 tu-mobilenetv3_small_100 mobileone_s0 tu-convnext_atto
    tu-regnetx_002 tu-regnety_002 tu-resnet18d timm-resnest14d timm-res2net50_26w_4s tu-seresnet18 tu-xception41
""".split()  # noqa: SIM905


def networks():
    """(family, name, function that makes (network, files beside the ONNX file's or None, settings of `load`))."""
    import smp_peer
    from detectron2_networks import ResNet as DetectronResNet
    from detectron2_networks import Segmentor as Detectron
    from hub_peers import transformers
    from mmsegmentation_networks import MobileNetV2, ResNet, Segmentor
    from peers import peer, randomised

    def plain(network, **settings):
        return network, None, settings

    for encoder in ENCODERS:
        yield "SMP v3+", encoder, lambda encoder=encoder: plain(smp_peer.network("DeepLabV3Plus", encoder))
    yield "SMP v3", "resnet18", lambda: plain(smp_peer.network("DeepLabV3", "resnet18"))
    for name in ("deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"):
        made = getattr(peer("torchvision").models.segmentation, name)
        told = {"weights": None, "weights_backbone": None, "num_classes": 5}
        yield "torchvision", name, lambda made=made, told=told: plain(randomised(made(**told)))
    bodies = {"r18-v1c": (ResNet, 18, "v1c"), "r50-b": (ResNet, 50, ""), "m-v2": (MobileNetV2,)}
    for name, (body, *arguments) in bodies.items():
        for plus in (False, True):
            made = lambda plus=plus, body=body, arguments=arguments: plain(  # noqa: E731
                randomised(Segmentor(body(*arguments), plus, 16))
            )
            yield f"MMSegmentation v3{'+' * plus}", name, made
    for plus in (False, True):
        made = lambda plus=plus: plain(randomised(Detectron(DetectronResNet(50, True, stride_in_1x1=False), plus, 16)))  # noqa: E731
        yield f"Detectron2 v3{'+' * plus}", "R_52", made
    kinds = {
        "MobileNetV2": {"output_stride": 8, "num_labels": 5},
        "MobileViT": {"output_stride": 16, "num_labels": 5},
        "MobileViTV2": {"output_stride": 16, "num_labels": 5, "width_multiplier": 0.5},
    }

    def of_transformers(name, config):
        model = transformers(f"{name}ForSemanticSegmentation", **config)
        return model, model.config, {"upsample_logits": False}

    for name, config in kinds.items():
        yield "transformers", name, lambda name=name, config=config: of_transformers(name, config)


def exported(network, path, way):
    """What goes through the exporter: the first of a network's outputs."""
    import torch

    class First(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, pixels):
            scores = self.network(pixels)
            scores = getattr(scores, "logits", scores)
            if isinstance(scores, dict):
                return scores["out"]
            return scores[0] if isinstance(scores, list | tuple) else scores

    first = First().eval()
    settings = {"dynamo": True} if way == "torch.export" else {"dynamo": False, "opset_version": 17}
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(first, (torch.zeros(1, 3, *SIZE),), path, **settings)
    return first


def measured(make, way, folder):
    import numpy as np
    import torch

    import keras_deeplab

    network, config, settings = make()
    if config is not None:
        config.save_pretrained(folder)
    first = exported(network, folder / "model.onnx", way)
    model = keras_deeplab.load(folder, include_preprocessing=False, **settings)
    image = np.random.default_rng(1).standard_normal((1, *SIZE, 3)).astype("float32")
    with torch.no_grad():
        theirs = first(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    ours = np.asarray(model(image))
    return np.abs(ours - theirs).max() / np.ptp(theirs) if ours.shape == theirs.shape else float("inf")


def main(texts):
    warnings.simplefilter("ignore")
    print("| family | network | traced | torch.export |\n|---|---|---|---|")
    for family, name, make in networks():
        if texts and not any(text in f"{family} {name}" for text in texts):
            continue
        told = []
        for way in ("traced", "torch.export"):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    told.append(f"{measured(make, way, Path(folder)):.1e}")
                except Exception as error:
                    told.append("not loaded")
                    print(f"{family} {name}, {way}: {type(error).__name__}: {str(error)[:500]}", file=sys.stderr)
        print(f"| {family} | `{name}` | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
