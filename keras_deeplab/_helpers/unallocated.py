"""Models whose variables have shapes and no memory: to count with, in a tenth of the time that a fresh model takes."""

from typing import Any

import keras

from keras_deeplab._helpers.private import global_state


class unallocated(keras.StatelessScope):
    """A context in which Keras models are built without initialising their variables.

    What is built in it serves shapes and counts only: its variables are never initialised, not even afterwards.
    While it is being built its values read as zeros.

    Example:

    >>> import keras
    >>> with unallocated():
    ...     model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10**6)])
    >>> model.count_params()
    9000000
    """

    def __init__(self) -> None:
        super().__init__(initialize_variables=False)

    def __enter__(self):
        self.waiting = list(global_state.get_global_attribute("uninitialized_variables", []))
        return super().__enter__()

    def get_current_value(self, variable: Any) -> Any:
        return keras.ops.zeros(variable.shape, variable.dtype)

    def add_update(self, update: Any) -> None:
        pass

    def __exit__(self, *exception):
        super().__exit__(*exception)
        # Keras keeps a list of the variables that a scope left without values, and the end of any later scope, as
        # when JAX trains, would initialise them all. It has no public door.
        global_state.set_global_attribute("uninitialized_variables", self.waiting)
