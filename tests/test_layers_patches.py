"""Patches of maps and attention among them, beside the rule written out in NumPy."""

import keras
import numpy as np
import pytest

from keras_deeplab.layers import FoldPatches, LinearPatchAttention, PatchAttention, UnfoldPatches
from keras_deeplab.rewrite import atrous


def _patches(x, side):
    """(B, H, W, C) of sizes that `side` divides, to (B, P, N, C), one position after the other."""
    corners = [(row, column) for row in range(0, x.shape[1], side) for column in range(0, x.shape[2], side)]
    within = [(i, j) for i in range(side) for j in range(side)]
    return np.stack([np.stack([x[:, row + i, column + j] for row, column in corners], 1) for i, j in within], axis=1)


@pytest.mark.parametrize(("side", "size"), [(2, (4, 6)), (3, (3, 9)), (1, (2, 3))])
def test_patches_are_unfolded_in_order_and_folded_back(side, size):
    x = np.random.default_rng(0).standard_normal((2, *size, 5)).astype("float32")
    for remainder in ("resize", "crop"):
        patches = UnfoldPatches(side, remainder)(x)
        np.testing.assert_array_equal(np.asarray(patches), _patches(x, side))
        np.testing.assert_array_equal(np.asarray(FoldPatches(side, remainder)([patches, x])), x)


def test_what_a_patch_does_not_divide_is_resized_or_left_out():
    x = np.random.default_rng(0).standard_normal((1, 5, 7, 3)).astype("float32")
    cropped = FoldPatches(2, "crop")([UnfoldPatches(2, "crop")(x), x])
    expected = x.copy()
    expected[:, 4:] = expected[:, :, 6:] = 0
    np.testing.assert_array_equal(np.asarray(cropped), expected)
    ramp = np.broadcast_to(np.arange(7, dtype="float32")[None, None, :, None], (1, 5, 7, 1))
    resized = np.asarray(UnfoldPatches(2)(ramp))
    assert resized.shape == (1, 4, 12, 1)
    # Half-pixel centres: position i of 8 is (i + 0.5) * 7 / 8 - 0.5 of 7, clipped.
    np.testing.assert_allclose(resized[0, 0, :4, 0], np.clip((np.arange(0, 8, 2) + 0.5) * 7 / 8 - 0.5, 0, 6), atol=1e-6)
    assert np.asarray(FoldPatches(2)([resized, ramp])).shape == ramp.shape


def test_attention_is_the_softmax_of_scaled_products_of_each_head():
    rng = np.random.default_rng(0)
    queries, keys, values = (rng.standard_normal((2, 4, 6, 8)).astype("float32") for _ in range(3))
    found = np.asarray(PatchAttention(2)([queries, keys, values]))
    for head in (slice(0, 4), slice(4, 8)):
        scores = np.exp(np.einsum("bpnc,bpmc->bpnm", queries[..., head], keys[..., head]) / 2)
        expected = np.einsum("bpnm,bpmc->bpnc", scores / scores.sum(-1, keepdims=True), values[..., head])
        np.testing.assert_allclose(found[..., head], expected, atol=1e-5)
    with pytest.raises(ValueError, match="8 channels can't be divided among heads=3"):
        PatchAttention(3)([queries, keys, values])


def test_linear_attention_weighs_the_keys_by_one_score_each():
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 7)).astype("float32")
    weights = np.exp(x[..., :1]) / np.exp(x[..., :1]).sum(2, keepdims=True)
    expected = np.maximum(x[..., 4:], 0) * (weights * x[..., 1:4]).sum(2, keepdims=True)
    np.testing.assert_allclose(np.asarray(LinearPatchAttention()(x)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [(lambda: UnfoldPatches(0), "from 1 up"), (lambda: FoldPatches(2, "drop"), "must be one of")],
)
def test_arguments_are_checked(layer, message):
    with pytest.raises(ValueError, match=message):
        layer()


def test_a_map_behind_a_lost_stride_is_not_cut_into_patches_in_silence():
    x = inputs = keras.Input((None, None, 3))
    for strides in (2, 2):
        x = keras.layers.Conv2D(4, 3, strides, padding="same")(x)
    x = FoldPatches(2)([UnfoldPatches(2)(x), x])
    model = keras.Model(inputs, x)
    assert atrous(model, 4).output_shape == (None, None, None, 4)
    with pytest.raises(ValueError, match="its patches would be of other neighbours"):
        atrous(model, 2)
