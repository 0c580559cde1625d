"""Packages of others that tests compare with (the extra `peers`); a test is skipped where one isn't installed."""

import importlib
import sys
import warnings

import numpy as np
import pytest


def peer(name):
    """A package by its name, such as `"transformers"` or `"segmentation_models_pytorch"`.

    Imported within it, their warnings are not errors: they are about the peers' own code.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        _torchvisions_operators(torch)
        return pytest.importorskip(name)


def _torchvisions_operators(torch):
    """Makes torchvision importable beside a PyTorch without CUDA.

    Its wheel's operators are linked with CUDA and don't load then; of them its import needs the schemas of two, which
    no network here calls.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou) -> Tensor")
    except ImportError:
        return


def randomised(module, seed=0, size=97):
    """Fills a `torch.nn.Module` from `seed`, batch norm's statistics too, and puts it into evaluation mode.

    The statistics are those of noise, changed at random: features keep their size in all layers, so that float32's
    rounding doesn't grow on its way through a deep network.
    """
    import torch

    rng = np.random.default_rng(seed)

    def drawn(shape, low, high):
        return torch.from_numpy(rng.random(tuple(shape), "float32")).mul_(high - low).add_(low)

    def settle(norm, inputs):
        """Statistics near those of what comes in, so that what goes out has a size of about one."""
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), unbiased=False)
        # Of channels that are silent, and of means over whole images, it would be near zero; where it is far below the
        # mean's square, float32 loses digits. Neither would be a finding.
        variance = variance.clamp(min=float(variance.mean()) / 4).maximum(mean.square() / 4)
        norm.running_mean.copy_(mean + drawn(mean.shape, -0.3, 0.3) * variance.sqrt())
        norm.running_var.copy_(variance * drawn(variance.shape, 0.5, 1.5))

    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    with torch.no_grad():
        for tensor in module.parameters():
            if tensor.ndim >= 2:
                tensor.copy_(drawn(tensor.shape, -1, 1) * np.sqrt(6 / np.prod(tensor.shape[1:])))
            else:
                tensor.copy_(drawn(tensor.shape, -0.2, 0.2))
        for norm in norms:
            norm.weight.add_(0.7)
            norm.bias.add_(0.6)  # most activations are open: a network of none of them multiplies rounding errors
        module.eval()(torch.from_numpy(rng.standard_normal((2, 3, size, size)).astype("float32")))
    for hook in hooks:
        hook.remove()
    return module


def state_of(module):
    """`{name: array}` of a module."""
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def difference(model, module, sizes=((65, 97), (64, 96)), seed=1):
    """How far a model's outputs lie from a module's at most, in parts of the range of the module's; over all sizes.

    Args:
        model: from normalised images (B, H, W, 3) to logits, or a list of them.
        module: from (B, 3, H, W) to logits (B, classes, H, W), or a list of them.
    """
    import torch

    worst = 0.0
    for index, size in enumerate(sizes):
        images = np.random.default_rng(seed + index).standard_normal((1, *size, 3)).astype("float32")
        with torch.no_grad():
            expected = module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        found = model(images)
        expected = expected if isinstance(expected, (list, tuple)) else [expected]
        found = found if isinstance(found, (list, tuple)) else [found]
        for a, b in zip(found, expected, strict=True):
            b = b.numpy().transpose(0, 2, 3, 1)
            assert a.shape == b.shape, (a.shape, b.shape)
            worst = max(worst, float(np.abs(np.asarray(a) - b).max() / np.ptp(b)))
    return worst
