"""Several devices, of this machine or of many, for everything that is built and trained within a context."""

import contextlib
import os
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def distributed(devices: int | None = None, *, hosts: bool = False) -> Iterator[int]:
    """A context in which models are built and trained on several devices, each with its part of the batch.

    Build (or load) the model in it and call `train` in it. Batch normalisation has the statistics of the whole batch,
    and the loss is that of the whole batch, so that the run is that of one device with this batch size, but for
    rounding. On TensorFlow it is `tf.distribute.MirroredStrategy`, or with `hosts` `MultiWorkerMirroredStrategy`, which
    reads the environment variable TF_CONFIG; on JAX `keras.distribution.DataParallel`, with `hosts` after
    `keras.distribution.initialize()`, which reads KERAS_DISTRIBUTION_JOB_ADDRESSES, KERAS_DISTRIBUTION_NUM_PROCESSES
    and KERAS_DISTRIBUTION_PROCESS_ID. Without GPUs the devices are CPUs, of which there is one unless the backend is
    told to make several.

    Args:
        devices: how many of this host; None for all.
        hosts: whether other hosts run the same, each with all of its devices. Enter the context before anything is
            computed; `train` then gives each its part of every batch, and the first one alone writes.

    Yields:
        How many devices there are, of all hosts.

    Raises:
        ValueError: there are fewer devices, the backend has no distribution, or nothing tells the other hosts.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        strategy = _strategy(devices, hosts)
        with strategy.scope():
            yield strategy.num_replicas_in_sync
    elif backend == "jax":
        if hosts:
            keras.distribution.initialize()
        found = keras.distribution.list_devices()
        chosen = found if hosts else _chosen(found, devices)
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False))
        try:
            yield len(chosen)
        finally:
            keras.distribution.set_distribution(before)
    else:
        raise ValueError(f"several devices are for the TensorFlow and JAX backends, and this is {backend}")


def _strategy(devices, hosts):
    import tensorflow as tf

    if hosts:
        if "TF_CONFIG" not in os.environ:
            raise ValueError(
                "hosts=True needs the environment variable TF_CONFIG, which tells each host all of them and which it "
                "is: https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable"
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    found = [device.name for device in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(_chosen(found, devices))


def _chosen(found, devices):
    if devices is not None and not 1 <= devices <= len(found):
        raise ValueError(f"{devices} devices were asked for, and there are {len(found)}: {', '.join(map(str, found))}")
    return found[:devices]
