"""Several hosts that train one model: which of them this is, and what they tell each other beside the steps.

Every host runs the same program on the same data; the first one alone writes. What any of them does that others take
part in (a step, a checkpoint, a validation) all do at the same place, or they wait for each other forever: so whatever
might differ, such as a signal that only one got, is gathered first.
"""

import json
import zlib
from functools import cached_property
from typing import Any

import keras
import numpy as np

from keras_deeplab._helpers.private import on_several_hosts
from keras_deeplab.training.replicas import batch_sum, strategy_of

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class Hosts:
    """The hosts of a model's training; one where there is no more.

    Args:
        model: built within `keras_deeplab.training.distribution.distributed`, or on one device.

    Attributes:
        index, count: which this is, from 0, and how many there are.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.index, self.count = 0, 1
        if keras.backend.backend() == "jax" and keras.distribution.distribution() is not None:
            import jax

            self.index, self.count = jax.process_index(), jax.process_count()
        elif (resolver := getattr(strategy_of(model), "cluster_resolver", None)) is not None:
            names = resolver.cluster_spec().as_dict()
            places = [(kind, number) for kind in ("chief", "worker") for number in range(len(names.get(kind, ())))]
            self.index, self.count = places.index((resolver.task_type, resolver.task_id)), len(places)

    @cached_property
    def _added_up(self):
        strategy = strategy_of(self._model)

        def added_up(values):
            return batch_sum(tf.identity(values))  # a function's argument has no device, and sums go by devices

        @tf.function
        def run(values):
            return strategy.experimental_local_results(strategy.run(added_up, (values,)))[0]

        return run

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def several(self) -> bool:
        return self.count > 1

    def class_for(self, kind: type[keras.Model]) -> type[keras.Model]:
        """A class of models to the one whose `fit` runs here.

        Under `tf.distribute.MultiWorkerMirroredStrategy` Keras's averages the logs of a step over their first axis, and
        scalars have none; and what it would build before the first step it tries with the batches of all hosts as one.
        They are built as the first step is traced.
        """
        return on_several_hosts(kind) if self.several and keras.backend.backend() == "tensorflow" else kind

    def gathered(self, value: int) -> list[int]:
        """An int32 of this host to those of all, in their order; it waits for the others."""
        if not self.several:
            return [value]
        if keras.backend.backend() == "jax":
            from jax.experimental import multihost_utils

            return np.asarray(multihost_utils.process_allgather(np.array([value], np.int32))).ravel().tolist()
        places = np.zeros(self.count, np.int32)
        places[self.index] = value
        devices = strategy_of(self._model).num_replicas_in_sync // self.count
        return (self._added_up(tf.constant(places)).numpy() // devices).tolist()

    def agree(self, value: Any, what: str) -> None:
        """Raises a ValueError where a plain JSON value isn't the same on all hosts; they all raise it."""
        told = zlib.crc32(json.dumps(value, sort_keys=True).encode()) & 0x7FFFFFFF
        found = self.gathered(told)
        others = [str(index) for index, each in enumerate(found) if each != found[0]]
        if others:
            raise ValueError(
                f"{what} differ between hosts: {', '.join(others)} of 0 to {self.count - 1} have others than host 0; "
                f"here (host {self.index}): {json.dumps(value)[:2000]}"
            )

    def all_managed(self, error: Exception | None, what: str) -> None:
        """Raises this host's error, or where another one has one, that it can't do `what`."""
        failed = [index for index, each in enumerate(self.gathered(int(error is not None))) if each]
        if error is not None:
            raise error
        if failed:
            raise ValueError(f"host {failed[0]} can't {what}; its own message says why")
