"""A trained model to one whose int8 file keeps its accuracy: what is done before a converter, or a phone, sees it.

`quantize` folds batch norm, evens out channels, searches ranges, stores the channels that need it several times and
rounds kernels; `fine_tune` may train what is left; `balance` mends the classes' biases last. All need photographs, no
labels.
"""

from keras_deeplab.quantize.argmax import balance
from keras_deeplab.quantize.fine_tuning import fine_tune
from keras_deeplab.quantize.folding import UnfoldableError, fold
from keras_deeplab.quantize.pixels import PADDING
from keras_deeplab.quantize.post_training import fit_ranges, is_quantised, quantize
from keras_deeplab.quantize.rounding import round_kernels

__all__ = [
    "PADDING",
    "UnfoldableError",
    "balance",
    "fine_tune",
    "fit_ranges",
    "fold",
    "is_quantised",
    "quantize",
    "round_kernels",
]
