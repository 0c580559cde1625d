"""Automatic splits: repeatable anywhere, and nothing that is nearly equal on both sides."""

import random

import pytest

from keras_deeplab.data.splits import automatic, series

NAMES = [f"im{number:02}" for number in range(1, 13)]


def test_a_split_is_the_same_for_the_same_names_and_seed_anywhere():
    # Written down once: SHA-256 gives it on every machine.
    assert automatic(NAMES, "val") == ["im01", "im11"]
    shuffled = random.Random(1).sample(NAMES, len(NAMES))
    assert automatic(shuffled, "val") == automatic(NAMES, "val")
    assert automatic(NAMES, "val", seed=1) != automatic(NAMES, "val")
    # Of the images that were there before, an added one moves few.
    larger = set(automatic([*NAMES, "im13"], "val"))
    assert len(larger & set(automatic(NAMES, "val"))) >= 1


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("count", [3, 12, 100])
def test_the_parts_are_all_of_it_and_of_the_share_that_was_asked_for(share, count):
    names = [f"im{number}" for number in range(count)]
    train, val = (automatic(names, part, share=share) for part in ("train", "val"))
    assert sorted(train + val) == sorted(names) == automatic(names, "all", share=share)
    assert len(val) == min(max(round(share * count), 1), count - 1)


@pytest.mark.parametrize(
    "name",
    [
        "clip{}_{:04}",
        "day/cam{}-frame{:05}",
        "clip{}/{:04}",
        "photo{}_jpg.rf.{:032x}",
        "tile_{}_x{}_y512.png",
        "tile_{}_row{}_col3",
        "IMG_{} ({})",
        "20230{}_{}_07",
        "field{}_aug_{}",
        "field{}_rot{}",
    ],
)
def test_near_copies_never_stand_on_both_sides(name):
    names = {name.format(group, copy): group for group in range(1, 8) for copy in range(9)}
    for seed in range(20):
        train, val = ({names[each] for each in automatic(list(names), part, seed=seed)} for part in ("train", "val"))
        assert train
        assert val
        assert not train & val


def test_one_series_is_split_by_photograph_and_classes_in_names_are_no_series():
    frames = [f"clip3_{number:04}" for number in range(10)]
    assert len(automatic(frames, "val")) == 2
    copies = [f"clip3_{number:04}_jpg.rf.{copy}" for number in range(10) for copy in "abc"]
    val = automatic(copies, "val")
    assert len(val) == 6
    assert len({name[:10] for name in val}) == 2
    assert len(automatic(["a (1)", "a (2)", "a (3)"], "val")) == 1  # all copies of one
    # Whole classes would be held back.
    pets = [f"{kind}_{number}" for kind in ("cat", "dog") for number in range(50)]
    assert {name[:3] for name in automatic(pets, "val")} == {"cat", "dog"}
    assert series("IMG_0007") == ("img_0007", "img_0007")
    assert series("0007") == ("0007", "0007")


def test_large_series_leave_something_on_both_sides():
    names = [f"clip1_{number}" for number in range(50)] + [f"clip2_{number}" for number in range(60)]
    assert len(automatic(names, "val", share=0.01)) == 50
    assert len(automatic(names, "train", share=0.99)) in (50, 60)


def test_what_cannot_be_split_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"2 images can't be split .* split='all' takes every image"):
        automatic(["a", "b"], "train")
    assert automatic(["b", "a"], "all") == ["a", "b"]
    with pytest.raises(ValueError, match=r"split='test', .* 'train', 'val', 'all'"):
        automatic(NAMES, "test")
    for share in (0, 1, -0.5, float("nan"), "0.2", True):
        with pytest.raises(ValueError, match=r"val_share must be a number between 0 and 1"):
            automatic(NAMES, "val", share=share)
