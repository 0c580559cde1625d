"""The one network of both sides: segmentation_models.pytorch's DeepLab v3+ with values from a seed, and ours of it."""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
BACKBONES = {"mobilenet_v2": "mobilenet_v2", "resnet50": "resnet50", "xception_65": "tu-xception65"}


def torch_network(backbone: str, classes: int, stride: int, weights: str | None = None):
    """The peer's network, its weights and the statistics of batch norm drawn anew, or those of a .pth file."""
    from peers import peer

    torch, smp = peer("torch"), peer("segmentation_models_pytorch")
    torch.manual_seed(0)
    network = smp.DeepLabV3Plus(
        BACKBONES[backbone], encoder_weights=None, classes=classes, encoder_output_stride=stride
    )
    if weights:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
            torch.nn.init.normal_(module.bias, 0.0, 0.1)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.7, 1.3)
    network.eval()
    # So that no class wins everywhere, and labels are a test of anything.
    with torch.inference_mode():
        means = network(torch.from_numpy(normalised(images(2, 256)))).mean((0, 2, 3))
    with torch.no_grad():
        network.segmentation_head[0].bias.sub_(means)
    return network


def own_network(*network):
    """Ours, with the very values of the peer's, `torch_network(*network)`."""
    import keras_deeplab

    _, _, stride, *_ = network
    state = {name: tensor.numpy() for name, tensor in torch_network(*network).state_dict().items()}
    # Both take pixels as `normalised` makes them, whatever an encoder's own weights were trained with.
    return keras_deeplab.load(state, source="smp", output_stride=stride, include_preprocessing="torch")


def images(count: int, size: int, photographs: str | None = None) -> np.ndarray:
    """Pixels (count, size, size, 3) uint8: photographs of a data set's val split, or smooth patches with noise."""
    import cv2

    if photographs:
        from keras_deeplab import data

        source = data.load(photographs, split="val")
        chosen = np.linspace(0, len(source) - 1, count).astype(int)
        return np.stack([cv2.resize(source.sample(index)[0], (size, size)) for index in chosen])
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (count, 9, 9, 3), "uint8")
    smooth = np.stack([cv2.resize(each, (size, size), interpolation=cv2.INTER_CUBIC) for each in coarse])
    return np.clip(smooth.astype(int) + random.integers(-20, 20, smooth.shape), 0, 255).astype("uint8")


def normalised(pixels: np.ndarray) -> np.ndarray:
    """Pixels (N, H, W, 3) as the peer's encoders take them, (N, 3, H, W) float32."""
    mean, deviation = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    return np.ascontiguousarray(((pixels / 255.0 - mean) / deviation).transpose(0, 3, 1, 2).astype("float32"))
