"""The training pipeline: every sample once an epoch, the same from the same seed, resumable at any step."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab import data
from keras_deeplab.data import pipeline
from keras_deeplab.data.source import indexed


def marked(count, shape=(12, 15)):
    """A source whose sample i is filled with i, in image and label."""

    def read(index):
        height, width = shape[0] + index % 3, shape[1] + index % 4
        return np.full((height, width, 3), index, np.uint8), np.full((height, width), index, np.uint8), f"n{index}"

    return indexed("marked", [f"class {number}" for number in range(max(count, 1))], count, read)


def batches(count, source, **options):
    options = {"batch_size": 4, "crop_size": 8} | options
    return [(images.numpy(), labels.numpy()) for images, labels in pipeline.training(source, **options).take(count)]


def assert_same(some, others):
    assert len(some) == len(others)
    for (images, labels), (other_images, other_labels) in zip(some, others, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_every_sample_comes_once_an_epoch_and_batches_are_whole(count):
    seen = []
    for images, labels in batches(10, marked(count), scale_range=(1, 1)):
        assert images.shape == (4, 8, 8, 3)
        assert images.dtype == np.float32
        assert labels.shape == (4, 8, 8)
        assert labels.dtype == np.uint8
        for image, label in zip(images, labels, strict=True):
            assert (image == label[0, 0]).all()
            seen.append(int(label[0, 0]))
    epochs = [tuple(seen[first : first + count]) for first in range(0, 40 - count + 1, count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count == 10:
        assert len(set(epochs)) == len(epochs)


def test_the_static_shape_is_known():
    dataset = pipeline.training(marked(3), batch_size=2, crop_size=(5, 7))
    assert dataset.element_spec == (
        tf.TensorSpec((2, 5, 7, 3), tf.float32),
        tf.TensorSpec((2, 5, 7), tf.uint8),
    )
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY or dataset.cardinality() < 0


@pytest.mark.slow
def test_the_seed_decides_everything():
    source = data.load("synthetic", num_examples=7, size=(20, 24))
    options = {"crop_size": (17, 19), "brightness": 0.2, "seed": 5}
    first = batches(6, source, **options)
    assert_same(first, batches(6, source, **options))
    other = batches(6, source, **{**options, "seed": 6})
    assert not any(np.array_equal(images, others) for (images, _), (others, _) in zip(first, other, strict=True))
    # A second epoch sees the same samples cut differently.
    assert len({images[index].tobytes() for images, _ in first for index in range(4)}) == 24


def test_the_number_of_threads_does_not_matter():
    source = data.load("synthetic", num_examples=7, size=(20, 24))
    dataset = pipeline.training(source, batch_size=3, crop_size=16, seed=1)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.autotune.enabled = False
    alone = [(images.numpy(), labels.numpy()) for images, labels in dataset.with_options(options).take(6)]
    assert_same(alone, batches(6, source, batch_size=3, crop_size=16, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("start_step", [1, 2, 5, 9])
def test_starting_later_gives_what_would_have_come(start_step):
    source = data.load("synthetic", num_examples=7, size=(20, 24))
    whole = batches(12, source, seed=3)
    assert_same(batches(12 - start_step, source, seed=3, start_step=start_step), whole[start_step:])


@pytest.mark.slow
def test_starting_later_reads_nothing_that_is_skipped():
    read_indices = []

    def read(index):
        read_indices.append(index)
        return np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), str(index)

    source = indexed("counted", ["only"], 1000, read)
    for _ in pipeline.training(source, batch_size=2, crop_size=4, start_step=123_456_789).take(1):
        pass
    # Some more are read ahead.
    assert 2 <= len(read_indices) < 200


EVERYTHING = {
    "hue": 0.1,
    "vertical_flip": True,
    "rotation": 20.0,
    "cutout": 0.3,
    "class_mix": 0.5,
    "max_class_share": 0.75,
}


@pytest.mark.slow
def test_starting_later_gives_the_same_with_every_augmentation_and_each_of_them_counts():
    source = data.load("synthetic", num_examples=7, size=(20, 24))
    whole = batches(4, source, seed=3, **EVERYTHING)
    assert_same(batches(2, source, seed=3, start_step=2, **EVERYTHING), whole[2:])
    plain = batches(2, source, seed=3)
    for name, value in EVERYTHING.items():
        changed = batches(2, source, seed=3, **{name: value})
        assert not all(
            np.array_equal(images, others) for (images, _), (others, _) in zip(changed, plain, strict=True)
        ), name


def test_images_of_other_channels_are_turned_cut_out_and_mixed_but_not_recoloured():
    source = indexed(
        "five", ["a", "b"], 3, lambda index: (np.zeros((9, 8, 5), np.uint8), np.zeros((9, 8), np.uint8), ""), channels=5
    )
    options = {name: value for name, value in EVERYTHING.items() if name != "hue"}
    assert batches(1, source, **options)[0][0].shape == (4, 8, 8, 5)
    with pytest.raises(ValueError, match=r"hue=0\.1 change red, .* the images of five have 5 channels"):
        pipeline.training(source, batch_size=2, crop_size=4, hue=0.1)


def test_mixing_with_nothing_is_refused():
    with pytest.raises(ValueError, match="another of its batch: batch_size=1 has none"):
        pipeline.training(marked(2), batch_size=1, crop_size=4, class_mix=0.5)


def test_flips_and_scales_can_be_left_out():
    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8), (8, 8))
    source = indexed("ramp", list("abcdefgh"), 1, lambda _: (np.repeat(ramp[..., None], 3, -1), ramp, "ramp"))
    for images, labels in batches(5, source, flip=False, scale_range=(1, 1)):
        np.testing.assert_array_equal(labels, np.broadcast_to(ramp, (4, 8, 8)))
        np.testing.assert_array_equal(images[..., 0], labels)
    flipped = {labels[index, 0, 0] for _, labels in batches(5, source, scale_range=(1, 1)) for index in range(4)}
    assert flipped == {0, 7}
    small = [(labels == 255).mean() for _, labels in batches(3, source, scale_range=(0.5, 0.5))]
    np.testing.assert_allclose(small, 0.75)


@pytest.mark.parametrize(
    "options", [{"crop_size": 0}, {"crop_size": (4,)}, {"batch_size": 0}, {"start_step": -1}, {"scale_range": (2, 1)}]
)
def test_impossible_settings_are_refused_at_once(options):
    with pytest.raises(ValueError, match=r"at least|low <= high"):
        pipeline.training(marked(2), **{"batch_size": 1, "crop_size": 4, **options})


def test_evaluation_gives_the_samples_as_they_are():
    source = marked(5)
    names = [sample["name"].numpy().decode() for sample in pipeline.evaluation(source)]
    assert names == ["n0", "n1", "n2", "n3", "n4"]
    limited = list(pipeline.evaluation(source, limit=2))
    assert [sample["image"].shape[:2] for sample in limited] == [(12, 15), (13, 16)]
    assert limited[1]["image"].dtype == tf.uint8
    assert len(list(pipeline.evaluation(source, limit=99))) == 5
    with pytest.raises(ValueError, match="limit=0"):
        pipeline.evaluation(source, limit=0)


def test_a_bad_sample_is_named_in_the_midst_of_keras_training():
    import keras

    def read(index):
        if index == 3:
            raise ValueError("masks/broken.png holds 77")
        return np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), str(index)

    model = keras.Sequential([keras.layers.Conv2D(2, 1)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dataset = pipeline.training(indexed("broken", ["a", "b"], 6, read), batch_size=2, crop_size=4)
    with pytest.raises(ValueError, match=r"^masks/broken\.png holds 77$"), data.readable_errors():
        model.fit(dataset, steps_per_epoch=4, shuffle=False, verbose=0)


def test_a_split_of_nothing_is_refused():
    with pytest.raises(ValueError, match="empty"):
        marked(0)


def test_real_photographs_make_batches(shared):
    source = data.load(shared / "data" / "idd_lite")
    for images, labels in pipeline.training(source, batch_size=4, crop_size=(225, 321)).take(3):
        assert 0 <= float(tf.reduce_min(images)) < 60
        assert 200 < float(tf.reduce_max(images)) <= 255
        assert set(np.unique(labels)) <= {*range(7), 255}
        assert (labels.numpy() != 255).mean() > 0.2
