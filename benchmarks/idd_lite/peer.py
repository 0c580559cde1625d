"""Trains the PyTorch side: segmentation_models.pytorch's DeepLabV3Plus on MobileNetV2 by VainF's recipe.

    python benchmarks/idd_lite/start.py MOBILENET_V2_NOTOP.weights.h5 start.npz      # in Keras's environment
    python benchmarks/idd_lite/peer.py IDD_LITE start.npz peer.jsonl --steps 1080    # in PyTorch's

Needs torch, torchvision, segmentation-models-pytorch, numpy and opencv-python-headless, and nothing of this package.
Network: segmentation_models_pytorch.DeepLabV3Plus("mobilenet_v2"), its encoder filled with the same ImageNet weights.
Recipe (VainF/DeepLabV3Plus-Pytorch, main.py): SGD 0.01 with momentum 0.9 and weight decay 1e-4, a tenth of the rate for
the backbone, polynomial decay of power 0.9, cross-entropy without the ignored pixels, momentum 0.01 of the backbone's
batch norm, horizontal mirroring. What is the comparison's and not the recipe's, alike on both sides: the random scales,
the size of the crops, their number, and how validation images are scored, whole and at their own size.
`--recipe adamw` is a second one, as people write it today: AdamW 5e-4 for all, one-cycle, decay 0.01.
Images lie decoded in memory, so that no time goes into reading files. Writes one JSON line a validation:
step, processor seconds of the training so far (validation left out), mean IoU, IoU of each class.
"""

import argparse
import json
import resource
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch

cv2.setNumThreads(1)
IGNORED = 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("start")
    parser.add_argument("output")
    parser.add_argument("--recipe", choices=["vainf", "adamw"], default="vainf")
    parser.add_argument("--steps", type=int, default=1080)
    parser.add_argument("--every", type=int, default=360)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop-size", default="225x321")
    parser.add_argument("--scale-range", default="0.75,1.5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    random = np.random.default_rng(arguments.seed)
    crop = tuple(map(int, arguments.crop_size.split("x")))
    scales = np.arange(*_scales(arguments.scale_range), 0.25)
    train, val = (_images(Path(arguments.data), split) for split in ("train", "val"))
    classes = len((Path(arguments.data) / "classes.txt").read_text().split())
    network = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=classes)
    _fill(network.encoder, np.load(arguments.start))
    optimizer, schedule = _optimizer(network, arguments)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=IGNORED)
    spent, order = 0.0, np.empty(0, int)
    Path(arguments.output).unlink(missing_ok=True)
    for step in range(1, arguments.steps + 1):
        began = _processor_seconds()
        network.train()
        if len(order) < arguments.batch_size:
            order = np.concatenate([order, random.permutation(len(train))])
        chosen, order = order[: arguments.batch_size], order[arguments.batch_size :]
        samples = [_augmented(*train[index], crop, scales, random) for index in chosen]
        images = torch.from_numpy(np.stack([image for image, _ in samples])).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(np.stack([label for _, label in samples]).astype(np.int64))
        height, width = crop
        # The network takes multiples of 16: grey below and on the right, as in validation.
        images = torch.nn.functional.pad(images, (0, -width % 16, 0, -height % 16))
        optimizer.zero_grad()
        loss = criterion(network(images)[:, :, :height, :width], labels)
        loss.backward()
        optimizer.step()
        schedule.step()
        spent += _processor_seconds() - began
        if step % arguments.every == 0 or step == arguments.steps:
            iou = _validated(network, val, classes)
            row = {"step": step, "processor_seconds": round(spent, 1), "mean_iou": float(np.nanmean(iou))}
            row |= {"iou": iou.tolist(), "loss": loss.item()}
            with open(arguments.output, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def _scales(text):
    low, high = map(float, text.split(","))
    return low, high + 1e-6


def _optimizer(network, arguments):
    if arguments.recipe == "adamw":
        optimizer = torch.optim.AdamW(network.parameters(), 5e-4, weight_decay=0.01)
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=arguments.steps)
    for module in network.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.01
    head = [*network.decoder.parameters(), *network.segmentation_head.parameters()]
    groups = [{"params": network.encoder.parameters(), "lr": 0.001}, {"params": head, "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, 0.01, momentum=0.9, weight_decay=1e-4)
    return optimizer, torch.optim.lr_scheduler.PolynomialLR(optimizer, arguments.steps, 0.9)


def _images(folder, split):
    """All (image, label) of a split, decoded."""
    found = []
    for name in (folder / "splits" / f"{split}.txt").read_text().split():
        image = cv2.cvtColor(cv2.imread(str(folder / "images" / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
        found.append((image, cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)))
    return found


def _augmented(image, label, crop, scales, random):
    scale = random.choice(scales)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    below, right = max(0, crop[0] - size[1]), max(0, crop[1] - size[0])
    if below or right:
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(127.5, 127.5, 127.5))
        label = cv2.copyMakeBorder(label, 0, below, 0, right, cv2.BORDER_CONSTANT, value=IGNORED)
    top, left = (random.integers(0, side - part + 1) for side, part in zip(label.shape, crop, strict=True))
    image = image[top : top + crop[0], left : left + crop[1]]
    label = label[top : top + crop[0], left : left + crop[1]]
    if random.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    return np.float32(image) / 127.5 - 1.0, label


@torch.no_grad()
def _validated(network, val, classes):
    """IoU of each class over whole images at their own size."""
    network.eval()
    matrix = np.zeros((classes, classes), np.int64)
    for image, label in val:
        height, width = label.shape
        fed = torch.from_numpy(np.float32(image) / 127.5 - 1.0).permute(2, 0, 1)[None]
        fed = torch.nn.functional.pad(fed, (0, -width % 16, 0, -height % 16))
        found = network(fed)[0, :, :height, :width].argmax(0).numpy()
        counted = label != IGNORED
        flat = label[counted].astype(np.int64) * classes + found[counted]
        matrix += np.bincount(flat, minlength=classes**2).reshape(classes, classes)
    hit = np.diagonal(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def _fill(encoder, arrays):
    """Keras's MobileNetV2 into torchvision's names; every array once."""
    rows = [("Conv1", "features.0.0"), ("bn_Conv1", "features.0.1")]
    block = [("depthwise", "0.0"), ("depthwise_BN", "0.1"), ("project", "1"), ("project_BN", "2")]
    rows += [(f"expanded_conv_{ours}", f"features.1.conv.{theirs}") for ours, theirs in block]
    block = [("expand", "0.0"), ("expand_BN", "0.1"), ("depthwise", "1.0"), ("depthwise_BN", "1.1")]
    block += [("project", "2"), ("project_BN", "3")]
    for number in range(1, 17):
        rows += [(f"block_{number}_{ours}", f"features.{number + 1}.conv.{theirs}") for ours, theirs in block]
    rows += [("Conv_1", "features.18.0"), ("Conv_1_bn", "features.18.1")]
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    layers, state = dict(rows), {}
    for key, array in arrays.items():
        layer, variable = key.rsplit("/", 1)
        if variable in ("kernel", "depthwise_kernel"):
            # (h, w, in, out) to (out, in, h, w); depthwise (h, w, in, 1) to (in, 1, h, w)
            order = (2, 3, 0, 1) if layer.endswith("depthwise") else (3, 2, 0, 1)
            state[f"{layers[layer]}.weight"] = torch.from_numpy(array.transpose(order).copy())
        else:
            # Keras's epsilon is 1e-3 and PyTorch's 1e-5: the variance takes the difference.
            value = array + (1e-3 - 1e-5) if variable == "moving_variance" else array
            state[f"{layers[layer]}.{names[variable]}"] = torch.from_numpy(value.copy())
    # The encoder's own method returns nothing.
    missing, unexpected = torch.nn.Module.load_state_dict(encoder, state, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"the encoder lacks {missing} and has no {unexpected}")


def _processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
