"""Augmentation: image and label stay one picture, at every size, and only the seed decides."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.data import transforms

SIZES = [(1, 1), (1, 40), (33, 2), (17, 23), (40, 40), (64, 31)]


def picture(height, width, seed=0):
    """An image whose three channels are ten times its label, in patches, so that each can be told from the other."""
    patches = np.random.default_rng(seed).integers(0, 20, (-(-height // 5), -(-width // 5)), np.uint8)
    label = np.kron(patches, np.ones((5, 5), np.uint8))[:height, :width]
    return np.repeat(10 * label[..., None], 3, -1), label


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale_range", "step", "expected"),
    [
        ((0.5, 2.0), 0.25, [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]),
        ((0.5, 2.0), 0.1, np.arange(0.5, 2.05, 0.1)),
        ((1.0, 1.0), 0.25, [1.0]),
        ((0.5, 1.1), 0.25, [0.5, 0.75, 1.0]),
    ],
)
def test_scales_come_in_equal_shares_of_the_steps(scale_range, step, expected):
    count = 2000
    draw = tf.function(lambda number: transforms.random_scale(tf.stack([7, number]), scale_range, step))
    drawn = np.array([draw(tf.constant(number)).numpy() for number in range(count)])
    values, counts = np.unique(np.round(drawn, 4), return_counts=True)
    np.testing.assert_allclose(values, expected, atol=1e-4)
    np.testing.assert_allclose(counts, count / len(expected), rtol=0.25)


def test_without_a_step_scales_fill_the_range():
    drawn = np.array([transforms.random_scale((1, number), (0.5, 2.0), 0).numpy() for number in range(300)])
    assert 0.5 <= drawn.min() < 0.55
    assert 1.95 < drawn.max() <= 2.0
    assert len(np.unique(drawn)) > 290


@pytest.mark.parametrize(("scale_range", "step"), [((0, 1), 0.1), ((2, 1), 0.1), ((1, 2), -0.1)])
def test_impossible_scales_are_refused(scale_range, step):
    with pytest.raises(ValueError, match="0 < low <= high"):
        transforms.random_scale((0, 0), scale_range, step)


def test_half_of_the_pictures_are_mirrored_with_their_labels():
    image, label = picture(11, 13)
    mirrored = 0
    for number in range(200):
        flipped_image, flipped_label = transforms.random_flip(image, label, (3, number))
        np.testing.assert_array_equal(flipped_image[..., 0], 10 * flipped_label)
        mirrored += np.array_equal(flipped_label, label[:, ::-1])
    assert 70 < mirrored < 130


@pytest.mark.parametrize("size", [(20, 30), (21, 31), (80, 120), (39, 61), (120, 180)])
def test_an_edge_stays_in_one_place_in_image_and_label(size):
    # A ramp of one grey level a pixel: after any resize, the image at a place tells which pixel it came from, and
    # the label must be that pixel's, to within the half pixel of rounding.
    height, width = 40, 60
    for axis in (0, 1):
        ramp = np.arange((height, width)[axis], dtype=np.uint8)
        label = np.broadcast_to(ramp[:, None] if axis == 0 else ramp, (height, width))
        image = np.repeat(label[..., None], 3, -1)
        resized_image, resized_label = transforms.resize(tf.constant(image), tf.constant(label), size)
        assert resized_image.shape == (*size, 3)
        difference = resized_image.numpy()[..., 0] - resized_label.numpy().astype(np.float32)
        assert np.abs(difference).max() <= 0.5 + 1e-4
        # On the way to half the size every sample lies between two pixels, and either is as near.
        if size[axis] * 2 != label.shape[axis]:
            assert abs(difference.mean()) < 0.06


def test_doubling_a_label_repeats_each_pixel_and_halving_undoes_it():
    image, label = picture(9, 14)
    doubled_image, doubled = transforms.resize(image, label, (18, 28))
    np.testing.assert_array_equal(doubled, np.kron(label, np.ones((2, 2), np.uint8)))
    _, halved = transforms.resize(doubled_image, doubled, (9, 14))
    np.testing.assert_array_equal(halved, label)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", [(1, 1), (16, 16), (33, 20), (65, 65)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.25, 2.0])
def test_a_crop_is_a_part_of_the_picture_or_padding(size, crop, scale):
    image, label = picture(*size)
    cropped_image, cropped = transforms.random_scaled_crop(image, label, crop, scale, (0, 5))
    cropped_image, cropped = cropped_image.numpy(), cropped.numpy()
    assert cropped_image.shape == (*crop, 3)
    assert cropped_image.dtype == np.float32
    assert cropped.shape == crop
    assert cropped.dtype == np.uint8
    inside = [min(part, max(1, round(whole * scale))) for part, whole in zip(crop, size, strict=True)]
    padding = np.ones(crop, bool)
    padding[: inside[0], : inside[1]] = False
    assert (cropped[padding] == 255).all()
    assert (cropped_image[padding] == 127.5).all()
    assert set(cropped[~padding]) <= set(label.flat)
    # Where the image has no edge nearby it is flat, and must agree with the label exactly.
    flat = cropped_image[..., 0]
    settled = ~padding & (np.abs(flat / 10 - np.round(flat / 10)) < 1e-6)
    if scale == 1:
        np.testing.assert_array_equal(flat[~padding], 10.0 * cropped[~padding])
    assert settled.sum() >= 0.2 * (~padding).sum() or (~padding).sum() < 16
    near = np.abs(flat - 10.0 * cropped)[~padding]
    assert (near < 1e-4).mean() > 0.3 or near.size < 16


def test_scales_go_from_half_to_twice_where_none_are_given():
    scales = {float(transforms.random_scale((0, number))) for number in range(80)}
    assert scales == {0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0}


@pytest.mark.slow
def test_every_place_is_cropped_alike():
    places = np.arange(30, dtype=np.uint8)
    label = np.broadcast_to(places, (4, 30))
    image = np.zeros((4, 30, 3), np.uint8)
    crop = tf.function(lambda seed: transforms.random_scaled_crop(image, label, (4, 20), 1.0, seed)[1])
    starts = [int(crop(tf.constant([0, number]))[0, 0]) for number in range(2200)]
    counts = np.bincount(starts)
    assert len(counts) == 11  # 30 - 20 + 1 places, the last included
    np.testing.assert_allclose(counts, 200, rtol=0.3)


def test_windows_lie_at_both_ends_too():
    label = np.zeros((6, 9), np.uint8)
    for drawn, wanted in (((0.0, 0.0), (0, 0)), ((0.49, 0.26), (0, 1)), ((0.5, 0.99), (1, 3))):
        assert tuple(int(each) for each in transforms._place(label, (5, 6), drawn)) == wanted


def test_a_label_that_is_ignored_everywhere_stays_so():
    label = np.full((5, 7), 255, np.uint8)
    _, cropped = transforms.random_scaled_crop(np.zeros((5, 7, 3), np.uint8), label, (9, 9), 0.75, (0, 1))
    assert (cropped.numpy() == 255).all()


def test_colours_change_as_much_as_is_asked():
    image = np.random.default_rng(0).uniform(60, 160, (8, 9, 3)).astype(np.float32)
    np.testing.assert_allclose(transforms.random_colour(image, (0, 0)), image, atol=1e-3)
    for number in range(20):
        brighter = transforms.random_colour(image, (0, number), brightness=0.3).numpy()
        factors = brighter / image
        np.testing.assert_allclose(factors, factors.mean(), rtol=1e-4)
        assert 0.7 <= factors.mean() <= 1.3
        greyer = transforms.random_colour(image, (0, number), saturation=1.0).numpy()
        weights = np.array([0.299, 0.587, 0.114])
        unclipped = ((greyer > 0) & (greyer < 255)).all(-1)
        np.testing.assert_allclose((greyer @ weights)[unclipped], (image @ weights)[unclipped], rtol=1e-4)
        flatter = transforms.random_colour(image, (0, number), contrast=0.5).numpy()
        np.testing.assert_allclose(flatter.mean(), image.mean(), rtol=1e-4)
        assert 0.5 <= flatter.std() / image.std() <= 1.5
    wild = transforms.random_colour(image, (0, 1), 1.0, 1.0, 1.0).numpy()
    assert wild.min() >= 0
    assert wild.max() <= 255
    with pytest.raises(ValueError, match="contrast=2"):
        transforms.random_colour(image, (0, 1), contrast=2)


def test_other_images_than_rgb_are_cut_and_turned_but_not_recoloured():
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 8, 5), np.uint8))
    label = image[..., 0]
    cut, cut_label = transforms.random_scaled_crop(image, label, (5, 7), 1.0, (0, 1))
    np.testing.assert_array_equal(cut[..., 0], tf.cast(cut_label, tf.float32))
    assert cut.shape[-1] == 5
    assert transforms.random_flip(image, label, (0, 1))[0].shape == (6, 8, 5)
    with pytest.raises(ValueError, match="random_colour changes red, green and blue, and the image has 5 channels"):
        transforms.random_colour(image, (0, 1), brightness=0.1)


def test_a_vertical_flip_turns_half_of_the_pictures_upside_down():
    image, label = picture(11, 13)
    mirrored = 0
    for number in range(100):
        flipped_image, flipped_label = transforms.random_vertical_flip(image, label, (3, number))
        np.testing.assert_array_equal(flipped_image[..., 0], 10 * flipped_label)
        mirrored += np.array_equal(flipped_label, label[::-1])
    assert 30 < mirrored < 70


def test_hue_turns_the_circle_of_colours_and_leaves_greys():
    import colorsys

    image = np.random.default_rng(0).uniform(40, 200, (4, 5, 3)).astype(np.float32)
    turns = []
    for number in range(15):
        turned = transforms.random_colour(image, (0, number), hue=0.2).numpy()
        before, after = (
            np.array([colorsys.rgb_to_hsv(*pixel) for pixel in each.reshape(-1, 3) / 255]) for each in (image, turned)
        )
        turn = (after[:, 0] - before[:, 0] + 0.5) % 1 - 0.5
        np.testing.assert_allclose(turn, turn[0], atol=1e-3)
        np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=1e-3)
        turns.append(turn[0])
    assert -0.2 <= min(turns) < -0.08
    assert 0.08 < max(turns) <= 0.2
    grey = np.full((2, 2, 3), 90, np.float32)
    np.testing.assert_allclose(transforms.random_colour(grey, (0, 1), hue=0.5), grey, atol=1e-3)
    with pytest.raises(ValueError, match=r"hue=0\.6"):
        transforms.random_colour(image, (0, 1), hue=0.6)


@pytest.mark.parametrize("channels", [3, 5])
def test_a_rotation_turns_image_and_label_about_their_middle_and_ignores_the_padding(channels):
    rows, columns = np.mgrid[:41, :31]
    # Each label is a place: so it can be compared with where the turn takes it from.
    for places in (rows, columns):
        image = np.repeat(places[..., None], channels, -1).astype(np.float32)
        angles, grey = [], 0
        for number in range(12):
            turned, label = transforms.random_rotation(image, places.astype(np.uint8), 30.0, (1, number))
            turned, label = turned.numpy(), label.numpy()
            assert turned.shape == image.shape
            inside = label != 255
            # Bilinear and nearest at the same points differ by half a pixel at most, but where padding is mixed in.
            near = np.abs(turned[..., 0] - label)[inside] <= 0.5 + 1e-3
            assert near.mean() > 0.9
            # The outermost row of padding is mixed with the image.
            grey = max(grey, np.mean(turned[~inside] == 127.5) if not inside.all() else 0)
            assert label[20, 15] == places[20, 15]
            slope_x = (turned[20, 20, 0] - turned[20, 10, 0]) / 10
            slope_y = (turned[25, 15, 0] - turned[15, 15, 0]) / 10
            assert np.hypot(slope_x, slope_y) == pytest.approx(1, abs=1e-3)
            angles.append(np.degrees(np.arctan2(slope_x, slope_y)) - (0 if places is rows else 90))
        assert grey > 0.3
        angles = (np.array(angles) + 180) % 360 - 180
        assert -30.1 <= angles.min() < -8
        assert 8 < angles.max() <= 30.1
    image, label = picture(9, 12)
    still = transforms.random_rotation(image, label, 0.0, (0, 1))
    np.testing.assert_array_equal(still[0], image)
    np.testing.assert_array_equal(still[1], label)


def test_a_cutout_is_a_grey_rectangle_of_its_share_anywhere():
    image, middles = np.zeros((20, 30, 3), np.float32), []
    for number in range(60):
        grey = transforms.random_cutout(image, 0.5, (2, number)).numpy()
        assert set(np.unique(grey)) <= {0.0, 127.5}
        rows, columns = (np.flatnonzero((grey[..., 0] > 0).any(axis)) for axis in (1, 0))
        assert (grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 127.5).all()
        assert 5 <= len(rows) <= 10
        assert 7 <= len(columns) <= 15
        middles.append((rows[0] == 0, rows[-1] == 19, columns[0] == 0, columns[-1] == 29))
    assert all(3 < count < 45 for count in np.sum(middles, 0))


def test_class_mix_puts_half_of_the_neighbours_classes_on_an_image():
    rng = np.random.default_rng(0)
    labels = np.stack([rng.choice(classes, (6, 7)) for classes in ([0, 1, 2], [3, 4, 255], [5], [6, 7, 8, 9])])
    labels = labels.astype(np.uint8)
    images = np.repeat(labels[..., None] * 10.0, 3, -1).astype(np.float32) % 251
    kinds = set()
    for number in range(8):
        mixed, mixed_labels = (each.numpy() for each in transforms.class_mix(images, labels, 1.0, (0, number)))
        np.testing.assert_array_equal(mixed[..., 0], (mixed_labels * 10.0) % 251)
        for index, count in enumerate((1, 1, 2, 2)):
            theirs = labels[(index + 1) % 4]
            taken = set(mixed_labels[index].ravel()) & set(theirs.ravel()) - {255}
            assert len(taken) == count
            covered = np.isin(theirs, list(taken))
            np.testing.assert_array_equal(mixed_labels[index][covered], theirs[covered])
            np.testing.assert_array_equal(mixed_labels[index][~covered], labels[index][~covered])
            kinds.add((index, *taken))
    assert len(kinds) > 8
    some = [np.array_equal(transforms.class_mix(images, labels, 0.5, (1, n))[1][0], labels[0]) for n in range(40)]
    assert 8 < sum(some) < 32
    np.testing.assert_array_equal(transforms.class_mix(images, labels, 0.0, (0, 1))[0], images)


def test_crops_seek_a_place_with_several_classes():
    label = np.zeros((40, 200), np.uint8)
    label[:, 150:170] = 1
    label[:, 190:] = 255
    image = np.zeros((40, 200, 3), np.uint8)

    def crops(share):
        @tf.function
        def crop(number):
            return transforms.random_scaled_crop(image, label, (20, 20), 1.0, tf.stack([0, number]), share)[1]

        found = [crop(tf.constant(number)).numpy() for number in range(100)]
        shares = [np.bincount(each[each != 255], minlength=2) for each in found]
        return [(counts > 0).all() and counts.max() < 0.75 * counts.sum() for counts in shares]

    # One place in eight has both classes so: by chance in one of ten draws, with the tenth as it is, in 1 - (7/8)^10.
    assert np.mean(crops(1.0)) < 0.25
    assert np.mean(crops(0.75)) > 0.6
    # Where no place will do, one is taken all the same.
    flat = np.full((9, 9), 3, np.uint8)
    _, taken = transforms.random_scaled_crop(np.zeros((9, 9, 3), np.uint8), flat, (4, 4), 1.0, (0, 1), 0.5)
    assert (taken.numpy() == 3).all()


def test_class_mix_takes_labels_of_which_none_is_ignored_and_a_probability_of_none():
    labels = np.repeat(np.arange(3, dtype=np.uint8)[:, None, None], 4, axis=1)  # three images (4, 1) of one class each
    images = np.repeat(labels[..., None] * 10.0, 3, axis=-1).astype("float32")
    mixed, found = transforms.class_mix(tf.constant(images), tf.constant(labels), 1.0, (0, 1))
    np.testing.assert_array_equal(found, np.roll(labels, -1, 0))  # half of one class is that class
    np.testing.assert_array_equal(mixed, np.roll(images, -1, 0))
    mixed, found = transforms.class_mix(tf.constant(images), tf.constant(labels), 0.0, (0, 1))
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(mixed, images)
