"""The public data sets through TensorFlow Datasets, prepared from miniatures."""

import data_sets
import numpy as np
import pytest

from keras_deeplab import data


@pytest.fixture(scope="module")
def tfds():
    import tensorflow_datasets

    import keras_deeplab.data.tfds_builders  # noqa: F401 - registers the builders

    return tensorflow_datasets


def prepared(tfds, name, archives, place):
    builder = tfds.builder(name, data_dir=place)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=archives))
    return builder


@pytest.mark.parametrize(("kind", "numbering"), [("ade20k", ""), ("cityscapes", ""), ("camvid", "/11")])
def test_a_builder_prepares_what_the_reader_reads(tfds, tmp_path, kind, numbering):
    expected = data_sets.MAKERS[kind](tmp_path / "archives")
    name = f"keras_deeplab_{kind}{numbering}"
    builder = prepared(tfds, name, tmp_path / "archives", tmp_path / "tfds")
    plain = data.load(tmp_path / "archives", split="val")
    assert set(builder.info.splits) == set(expected)
    assert builder.info.features["label"].names == plain.classes
    for sample in tfds.load(name, split="val", data_dir=tmp_path / "tfds"):
        image, label = expected["val"][sample["name"].numpy().decode()]
        assert sample["image"].shape == image.shape  # TensorFlow's JPEG decoder gives other pixels than ours
        np.testing.assert_array_equal(sample["label"][..., 0], label)
    source = data.load(f"tfds:{name}", split="train", data_dir=tmp_path / "tfds")
    assert source.classes == plain.classes
    pairs = {image.tobytes(): label for image, label in expected["train"].values()}
    for sample in source.dataset():
        np.testing.assert_array_equal(pairs.pop(sample["image"].numpy().tobytes()), sample["label"])
    assert not pairs


def test_a_photograph_that_is_marked_as_turned_is_prepared_as_it_is_stored(tfds, tmp_path):
    expected = data_sets.ade20k(tmp_path / "archives")["val"]["ADE_val_00000001"]
    (file,) = tmp_path.rglob("ADE_val_*.jpg")
    data_sets.mark_as_turned(file)
    prepared(tfds, "keras_deeplab_ade20k", tmp_path / "archives", tmp_path / "tfds")
    (sample,) = data.load("tfds:keras_deeplab_ade20k", split="val", data_dir=tmp_path / "tfds").dataset()
    np.testing.assert_array_equal(sample["image"], expected[0])
    np.testing.assert_array_equal(sample["label"], expected[1])


def test_each_numbering_is_a_configuration(tfds, tmp_path):
    data_sets.ade20k(tmp_path / "archives")
    builder = prepared(tfds, "keras_deeplab_ade20k/151", tmp_path / "archives", tmp_path / "tfds")
    assert builder.info.features["label"].names[:2] == ["background", "wall"]


def test_a_split_whose_archives_are_not_there_is_left_out_and_none_at_all_is_an_error(tfds, tmp_path):
    import shutil

    data_sets.idd_lite(tmp_path / "archives")
    shutil.rmtree(tmp_path / "archives/idd20k_lite/gtFine/val")
    builder = prepared(tfds, "keras_deeplab_idd_lite", tmp_path / "archives", tmp_path / "tfds")
    assert set(builder.info.splits) == {"train"}
    shutil.rmtree(tmp_path / "archives/idd20k_lite/gtFine/train")
    with pytest.raises(FileNotFoundError, match=r"download idd-lite\.tar\.gz from"):
        prepared(tfds, "keras_deeplab_idd_lite", tmp_path / "archives", tmp_path / "again")


def test_every_public_data_set_has_one(tfds):
    from keras_deeplab.data.tfds_builders import BUILDERS

    assert {*data_sets.MAKERS, "voc", "sbd"} <= BUILDERS.keys()
    for kind, builder in BUILDERS.items():
        assert builder.name == f"keras_deeplab_{kind}"
        assert "manual_dir holds what the archives of http" in builder.MANUAL_DOWNLOAD_INSTRUCTIONS
