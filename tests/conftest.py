"""What the tests share: the reference material beside the checkout, and quiet TensorFlow."""

import gc
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

# A script that imports PyTorch, which not every environment has: doctests aren't looked for in it.
collect_ignore = ["reference/make.py"]
# Networks are made of many objects that stay: from Python's own 700 on they would be looked through again and again.
# They are cycles, and are still freed: by the rarer collections, and behind each module.
gc.set_threshold(50_000, 20, 20)
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="module", autouse=True)
def settled():
    """What a module leaves behind, caches of TensorFlow and Keras, is walked through by no later garbage collection.

    A process that has run many modules holds millions of such objects, and would spend a tenth of its time on them.
    It is done before the next module and not at the end of its own, when pytest still holds what the last test used:
    frozen, its networks would stay for ever.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared():
    """The folder of reference outputs, photographs and trained weights; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference folder {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="module")
def classifiers():
    """A backbone by name, with random weights and statistics, built once."""
    from randomise import randomise

    from keras_deeplab.backbones import BACKBONES

    built = {}

    def get(name):
        if name not in built:
            built[name] = randomise(BACKBONES[name].build((None, None, 3)))
        return built[name]

    return get
