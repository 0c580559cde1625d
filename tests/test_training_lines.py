"""What a training says, from records alone: lines, tables, when it ends early."""

import itertools

import keras
import pytest

from keras_deeplab._helpers.text import columns
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.reports.history import never_predicted, recorded, scores
from keras_deeplab.training.early_stopping import should_stop
from keras_deeplab.training.lines import never_predicted_line, record_line, validation_lines


def record(ious, pixels=None, predicted=None):
    return {"validation_iou": ious, "validation_pixels": pixels, "validation_predicted": predicted}


def test_scores_of_a_validation_are_counted_by_hand():
    matrix = ConfusionMatrix(3)
    matrix.update([[0, 0, 0, 1, 255]], [[0, 0, 1, 0, 2]])  # class 2 is predicted on an ignored pixel alone
    told = recorded(scores(matrix))
    assert told == {
        "validation_mean_iou": 0.25,
        "validation_pixel_accuracy": 0.5,
        "validation_iou": [0.5, 0.0, None],
        "validation_pixels": [0.75, 0.25, 0.0],
        "validation_predicted": [0.75, 0.25, 0.0],
    }
    assert recorded(scores(ConfusionMatrix(2)))["validation_mean_iou"] is None


def test_a_class_that_is_predicted_in_the_wrong_places_is_not_called_never_predicted():
    wrong, never, absent = [0.2, 0.1], [0.3, 0.0], [0.0, 0.0]
    pixels, predicted = zip(wrong, never, absent, [0.5, 0.9], strict=True)
    assert never_predicted(record([0.0] * 4, pixels, predicted), ["wrong", "never", "absent", "all"]) == [
        ("never", 0.3)
    ]
    assert never_predicted(record([0.0, 0.0]), ["a", "b"]) == []  # the record of an older run doesn't tell
    assert never_predicted({"step": 3}, ["a", "b"]) == []


def test_classes_that_are_never_predicted_are_named_the_most_frequent_first():
    told = record([0.0] * 4, [0.01, 0.9, 0.032, 0.058], [0.0, 1.0, 0.0, 0.0])
    names = ["crack", "sound", "paint", "rust"]
    assert (
        never_predicted_line(told, names) == "never predicted: rust (5.8 % of the pixels), paint (3.2 %), crack (1 %)"
    )
    assert never_predicted_line(told, names, most=2) == (
        "never predicted: rust (5.8 % of the pixels), paint (3.2 %), and 1 more"
    )
    assert never_predicted_line(record([1.0], [1.0], [1.0]), ["sound"]) is None


def test_the_table_is_aligned_whatever_the_names():
    names = ["crack", "\u88c2\u7f1d", "a\x1b[31mb", "very long " * 9]
    lines = validation_lines(record([0.25, None, 1.0, 0.5], [0.5, 0.0, 0.2, 0.3], [1.0, 0.0, 0.0, 0.0]), names)
    assert {columns(line) for line in lines[:5]} == {2 + 32 + 2 + 6 + 2 + 11}
    assert lines[2].split()[1:] == ["-", "0.00"]
    assert "\x1b" not in "".join(lines)
    assert validation_lines({"step": 1}, names) == []


def test_many_classes_are_folded_to_the_worst_and_the_best():
    ious = [index / 300 for index in range(299)] + [None]
    lines = validation_lines(record(ious), [f"c{index}" for index in range(300)])
    shown = [line.split()[0] for line in lines]
    assert shown == ["class", *(f"c{i}" for i in range(6)), "...", *(f"c{i}" for i in range(293, 299))]
    assert lines[7] == "  ... 287 classes between; 1 class does not occur"
    few = validation_lines(record([0.5, None, 0.1] + [None] * 20), [f"c{index}" for index in range(23)])
    assert [line.split()[0] for line in few] == ["class", "c2", "c0", "..."]
    assert few[-1] == "  ... 21 classes do not occur"


def test_a_record_without_a_score_says_so():
    told = {"step": 3, "loss": 1.25, "learning_rate": 0.1, "mean_iou": None, "seconds": 4.0}
    assert record_line(told, 9) == "step 3/9  loss 1.2500  learning rate 0.1  00:04"
    told |= {"validation_mean_iou": None}
    assert record_line(told, 9, best_step=2) == (
        "step 3/9  loss 1.2500  learning rate 0.1  validation mIoU undefined  00:04"
    )


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_a_run_stops_where_keras_would_stop_it(patience):
    """All sequences of five scores out of three values, against keras.callbacks.EarlyStopping."""
    for values in itertools.product([0.2, 0.5, 0.4], repeat=5):
        theirs = keras.callbacks.EarlyStopping("mean_iou", mode="max", patience=patience)
        theirs.set_model(keras.Sequential())
        theirs.on_train_begin()
        for epoch, value in enumerate(values):
            theirs.on_epoch_end(epoch, {"mean_iou": value})
            if theirs.stopped_epoch:
                break
        history, ours = [], 0
        for epoch, value in enumerate(values):
            history += [{"step": epoch, "loss": 1.0}, {"step": epoch, "validation_mean_iou": value}]
            if should_stop(history, patience):
                ours = epoch
                break
        assert ours == theirs.stopped_epoch, values


def test_undefined_scores_are_no_better_and_patience_is_checked():
    history = [{"validation_mean_iou": None}, {"validation_mean_iou": 0.1}, {"validation_mean_iou": None}]
    assert not should_stop(history, 2)
    assert should_stop(history, 1)
    assert not should_stop(history * 50, None)
    assert not should_stop([], 1)
    with pytest.raises(ValueError, match="patience must be at least 1, received 0"):
        should_stop(history, 0)
