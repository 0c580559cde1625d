"""When a training ends early: decided from its history alone, so that a run that goes on after a kill decides alike.

`keras.callbacks.EarlyStopping` keeps its count in the object, and a resumed run begins it anew.
"""

from collections.abc import Sequence

from keras_deeplab.reports.history import Record


def should_stop(history: Sequence[Record], patience: int | None) -> bool:
    """Whether the last `patience` validations all failed to raise the best mean IoU that came before them.

    A validation whose mean IoU is undefined raises nothing. Records without a validation don't count.

    Args:
        history: the records of a run, as in `history.jsonl`.
        patience: how many validations may fail to; None for any number.

    Raises:
        ValueError: `patience` is less than 1.

    >>> history = [{"step": step, "validation_mean_iou": score} for step, score in enumerate([0.5, 0.6, 0.58, 0.6])]
    >>> should_stop(history, patience=2), should_stop(history, patience=3), should_stop(history[:3], patience=2)
    (True, False, False)
    """
    if patience is None:
        return False
    if patience < 1:
        raise ValueError(f"patience must be at least 1, received {patience!r}")
    return validations_since_best(history) >= patience


def validations_since_best(history: Sequence[Record]) -> int:
    """How many validations there were since the one of the greatest mean IoU; since the beginning where none has one.

    >>> validations_since_best([{"validation_mean_iou": 0.5}, {"loss": 1.0}, {"validation_mean_iou": 0.4}])
    1
    """
    best, since = None, 0
    for record in history:
        if "validation_mean_iou" not in record:
            continue
        score = record["validation_mean_iou"]
        if score is not None and (best is None or score > best):
            best, since = score, 0
        else:
            since += 1
    return since
