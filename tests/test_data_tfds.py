"""Any TensorFlow Datasets data set with images and masks, on small ones prepared here without a network."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab import data
from keras_deeplab.data import pipeline
from keras_deeplab.data.masks import write_label_png

tfds = pytest.importorskip("tensorflow_datasets")


COUNT = 9
features = tfds.features


def photograph(number):
    return np.random.default_rng(number).integers(0, 256, (8 + number, 12, 3), np.uint8)


def numbers(number):
    """What the masks store: 1, 2 or 3."""
    return np.random.default_rng(number).integers(1, 4, (8 + number, 12, 1), np.uint8)


def prepared(data_dir, feature_of_the_mask, encode=numbers, **more):
    """Register and prepare a data set of PNG photographs whose masks are as given; return its name."""
    name = f"tiny_{abs(hash(str(data_dir)))}"

    def info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=features.FeaturesDict(
                {
                    "photo": features.Image(shape=(None, None, 3), encoding_format="png"),
                    "mask": feature_of_the_mask,
                    "number": features.Scalar(np.int64),
                    **more,
                }
            ),
        )

    def generate(self):
        for number in range(COUNT):
            extra = {key: photograph(number)[..., : feature.shape[-1]] for key, feature in more.items()}
            yield number, {"photo": photograph(number), "mask": encode(number), "number": number, **extra}

    builder_class = type(
        "Tiny",
        (tfds.core.GeneratorBasedBuilder,),
        {
            "__module__": __name__,
            "name": name,
            "VERSION": tfds.core.Version("1.2.3"),
            "_info": info,
            "_split_generators": lambda self, manager: {"train": generate(self)},
            "_generate_examples": generate,
        },
    )
    builder_class(data_dir=data_dir).download_and_prepare()
    return f"tfds:{name}"


def found(source, **options):
    """The samples by their number, which their height tells."""
    return {len(item["label"]) - 8: item for item in source.dataset(**options).as_numpy_iterator()}


MASKS = {
    "labeled_image": (features.LabeledImage(shape=(None, None, 1), labels=["a", "b", "c"]), numbers),
    "image": (features.Image(shape=(None, None, 1)), numbers),
    "sixteen_bits": (
        features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png"),
        lambda number: numbers(number).astype(np.uint16),
    ),
    "tensor": (
        features.Tensor(shape=(None, None), dtype=np.int32, encoding="zlib"),
        lambda number: numbers(number)[..., 0].astype("int32"),
    ),
    "tensor_of_one_channel": (features.Tensor(shape=(None, None, 1), dtype=np.uint8, encoding="zlib"), numbers),
}


@pytest.mark.parametrize("kind", MASKS)
def test_the_features_are_found_and_read(tmp_path, kind):
    name = prepared(tmp_path, *MASKS[kind])
    options = {} if kind == "labeled_image" else {"num_classes": 3}
    source = data.load(name, data_dir=tmp_path, label_offset=-1, **options)
    assert source.classes == (["a", "b", "c"] if kind == "labeled_image" else ["class 0", "class 1", "class 2"])
    assert len(source) == COUNT
    samples = found(source)
    assert sorted(samples) == list(range(COUNT))
    for number, sample in samples.items():
        np.testing.assert_array_equal(sample["image"], photograph(number))
        np.testing.assert_array_equal(sample["label"], numbers(number)[..., 0] - 1)
        assert sample["label"].dtype == np.uint8
    counts = sum(np.bincount(numbers(number).ravel() - 1, minlength=256) for number in range(COUNT))
    np.testing.assert_array_equal(source.check(), counts)


def test_paletted_mask_files_keep_their_indices(tmp_path):
    def file_of(number):
        path = tmp_path / f"{number}.png"
        write_label_png(path, numbers(number)[..., 0])
        return str(path)

    name = prepared(tmp_path, features.Image(shape=(None, None, 1), encoding_format="png"), file_of)
    for number, sample in found(data.load(name, data_dir=tmp_path, num_classes=4)).items():
        np.testing.assert_array_equal(sample["label"], numbers(number)[..., 0])


def test_rgb_coded_masks(tmp_path):
    colors = np.array([[9, 9, 9], [0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    mask = features.Image(shape=(None, None, 3))
    name = prepared(tmp_path, mask, lambda number: colors[numbers(number)[..., 0]])
    with pytest.raises(ValueError, match=r"2 features that can be the image \(photo, mask\); image_key= says"):
        data.load(name, data_dir=tmp_path, num_classes=4)
    options = {"image_key": "photo", "label_key": "mask", "num_classes": 3, "data_dir": tmp_path}
    source = data.load(name, colors=colors[1:].tolist(), **options)
    for number, sample in found(source).items():
        np.testing.assert_array_equal(sample["label"], numbers(number)[..., 0] - 1)
    with pytest.raises(ValueError, match=r"9 of the 9 samples(?s:.*)record .*'mask' has three channels"):
        data.load(name, **options).check()


def test_black_and_white_masks_are_read_by_option(tmp_path):
    mask = features.Image(shape=(None, None, 1))
    name = prepared(tmp_path, mask, lambda number: np.where(numbers(number) == 2, 255, 0).astype(np.uint8))
    options = {"num_classes": 2, "data_dir": tmp_path}
    with pytest.raises(ValueError, match=r'tfds:tiny_\d+ \(9 read\) hold 0 and 255 alone.*mask_encoding="binary"'):
        data.load(name, **options)
    for number, sample in found(data.load(name, mask_encoding="binary", **options)).items():
        np.testing.assert_array_equal(sample["label"], numbers(number)[..., 0] == 2)


def test_what_the_features_do_not_say_is_asked_for(tmp_path):
    depth = {"depth": features.Image(shape=(None, None, 1))}
    name = prepared(tmp_path, features.Image(shape=(None, None, 1)), **depth)
    with pytest.raises(ValueError, match=r"(?s)2 features that can be the label \(mask, depth\).*photo: Image"):
        data.load(name, data_dir=tmp_path, num_classes=4)
    with pytest.raises(ValueError, match=r"no feature 'masks' \(label_key\); it has"):
        data.load(name, data_dir=tmp_path, label_key="masks")
    with pytest.raises(ValueError, match=r"how many classes .*num_classes="):
        data.load(name, data_dir=tmp_path, label_key="mask")
    assert data.load(name, data_dir=tmp_path, label_key="mask", classes=list("wxyz")).classes == list("wxyz")
    with pytest.raises(ValueError, match="num_classes=3, but classes= has 4"):
        data.load(name, data_dir=tmp_path, label_key="mask", classes=list("wxyz"), num_classes=3)


def test_a_label_outside_the_classes_names_its_record(tmp_path):
    name = prepared(tmp_path, features.Image(shape=(None, None, 1)))
    source = data.load(name, data_dir=tmp_path, num_classes=2, label_offset=-1)
    with pytest.raises(ValueError, match=r"record tiny_\d+-train.tfrecord\S+: 'mask' holds 3"), data.readable_errors():
        found(source)
    with pytest.raises(ValueError, match="9 of the 9 samples"):
        source.check()


@pytest.mark.slow
def test_epochs_are_shuffled_by_seed_and_number(tmp_path):
    source = data.load(prepared(tmp_path, *MASKS["image"]), data_dir=tmp_path, num_classes=4)
    orders = [tuple(found(source, shuffle_seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len(set(orders)) > 3
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert tuple(found(source, shuffle_seed=1, epoch=2)) == orders[-1]
    again = source.dataset(shuffle_seed=1, epoch=2)
    names = [[item["name"] for item in again.as_numpy_iterator()] for _ in range(2)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_training_resumes_where_it_was(tmp_path):
    source = data.load(prepared(tmp_path, *MASKS["image"]), split="train[:5]", data_dir=tmp_path, num_classes=4)
    assert len(source) == 5

    def batches(start_step, count):
        dataset = pipeline.training(source, batch_size=2, crop_size=8, seed=4, start_step=start_step)
        return [(images.numpy(), labels.numpy()) for images, labels in dataset.take(count)]

    first = batches(0, 9)
    # Whatever TensorFlow's own seed is; 0 is what the commands set by default.
    for global_seed in (0, 5):
        tf.random.set_seed(global_seed)
        for (images, labels), (later_images, later_labels) in zip(first[4:], batches(4, 5), strict=True):
            np.testing.assert_array_equal(images, later_images)
            np.testing.assert_array_equal(labels, later_labels)
