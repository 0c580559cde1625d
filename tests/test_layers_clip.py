"""Numbers held in an interval."""

import pytest

from keras_deeplab import layers


@pytest.mark.parametrize("ends", [(1, -1), (0, float("inf")), (float("nan"), 1)])
def test_a_clip_needs_ends_in_order(ends):
    with pytest.raises(ValueError, match="`low` must be at most `high`, both finite"):
        layers.Clip(*ends)
