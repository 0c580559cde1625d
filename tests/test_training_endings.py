"""A training that ends, however it does, leaves no thread of its data behind: the interpreter would wait for it."""

import gc
import os
import subprocess
import sys

import keras
import pytest

from keras_deeplab import data
from keras_deeplab.training.trainer import train

SCRIPT = """
import atexit, gc, sys

@atexit.register  # the first, so it runs last
def told():
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator
    print("left:", sum(issubclass(type(each), OwnedIterator) for each in gc.get_objects()))

import keras
from test_training_endings import trained

class Full(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise OSError("disk full")

gc.disable()
trained(sys.argv[1], [Full()])
"""


def trained(folder, callbacks=()):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(6, 1)(inputs))
    source = data.load("synthetic", size=16, num_examples=4)
    options = {"steps": 40, "batch_size": 2, "crop_size": 16, "progress": False, "batch_norm": "frozen"}
    return train(model, source, folder, callbacks=callbacks, log=lambda line: None, **options)


def iterators():
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    # By its type: isinstance asks for __class__, which some modules of others answer with a warning.
    return sum(issubclass(type(each), OwnedIterator) for each in gc.get_objects())


class Stop(keras.callbacks.Callback):
    """In the middle of an epoch, as signals do it: at its end Keras has no more use of its iterator."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = True


@pytest.mark.slow
def test_the_iterator_over_the_data_is_gone_when_a_training_was_stopped(tmp_path):
    gc.collect()
    before = iterators()
    gc.disable()
    try:
        assert trained(tmp_path, [Stop()])["step"] == 1
        assert iterators() == before
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_program_whose_training_failed_ends(tmp_path, backend):
    """The error that is shown last holds the frames of `fit`, and with them the iterator."""
    pytest.importorskip(backend)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("OSError: disk full")
    assert result.stdout == "left: 0\n"
