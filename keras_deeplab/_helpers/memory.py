"""Memory that runs out: told alike by whatever library asked for it."""

import gc
import sys
import traceback

# Of names and messages: TensorFlow's and XLA's, TensorFlow's for a constant that it has no room for, OpenCV's, and the
# ones for a thread that there is no stack for.
_TOLD = (
    *("ResourceExhausted", "RESOURCE_EXHAUSTED", "bad_alloc"),
    "Cannot parse tensor from proto",
    "(-4:Insufficient memory)",
    *("RuntimeError Resource temporarily unavailable", "can't start new thread"),
)


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python's, NumPy's, OpenCV's, TensorFlow's or XLA's says that memory ran out.

    >>> out_of_memory(MemoryError("Unable to allocate 9.00 GiB")), out_of_memory(ValueError("9 classes"))
    (True, False)
    """
    text = f"{type(error).__name__} {error}"
    told = any(words in text for words in _TOLD)
    # TensorFlow calls a full disk so, too.
    return isinstance(error, MemoryError) or (told and "No space left" not in text)


def let_go(error: BaseException | None) -> None:
    """Frees what the frames of an error hold; destructors that fail over the same lack of memory add nothing to it."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__context__
        gc.collect()
    finally:
        sys.unraisablehook = hook
