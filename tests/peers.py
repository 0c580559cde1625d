"""Packages of others that tests compare with (the extra `peers`); a test is skipped where one isn't installed."""

import importlib
import sys
import warnings

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
