"""A folder of photographs and masks: what comes out, and how each thing that can be wrong with it is named."""

import os
import re
import shutil

import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.data import pipeline
from keras_deeplab.data.masks import voc_palette, write_label_png
from keras_deeplab.data.splits import automatic
from keras_deeplab.specs import Classes

NAMES = ("a", "b.c", "sub/d")
CLASSES = ("sky", "ground", "tree")


def photograph(number, shape=(10, 14)):
    return np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8)


def labels(number, shape=(10, 14)):
    drawn = np.random.default_rng(number).integers(0, len(CLASSES), shape, np.uint8)
    drawn[0, 0] = 255
    return drawn


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photographs"
    for number, name in enumerate(NAMES):
        write_png(root / "images" / f"{name}.png", photograph(number))
        write_png(root / "masks" / f"{name}.png", labels(number))
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("b.c\na\n")
    (root / "splits" / "val.txt").write_text("sub/d\n")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def samples(source, **options):
    return {
        item["name"].numpy().decode(): (item["image"].numpy(), item["label"].numpy())
        for item in source.dataset(**options)
    }


def test_a_split_gives_its_pairs_in_its_own_order(folder):
    source = data.load(folder)
    assert (source.classes, source.num_classes, source.ignore_label) == (list(CLASSES), 3, 255)
    assert source.num_examples == len(source) == 2
    np.testing.assert_array_equal(source.palette, voc_palette())
    found = samples(source)
    assert list(found) == ["b.c", "a"]
    for number, name in ((1, "b.c"), (0, "a")):
        np.testing.assert_array_equal(found[name][0], photograph(number))
        np.testing.assert_array_equal(found[name][1], labels(number))
    assert list(samples(data.load(str(folder), split="val"))) == ["sub/d"]
    assert list(samples(data.load(f"folder:{folder}", split="val"))) == ["sub/d"]


def without_lists(folder):
    for file in (folder / "splits").iterdir():
        file.unlink()
    (folder / "splits").rmdir()


@pytest.mark.parametrize("split", ["all", None])
def test_all_images_can_be_taken_without_a_list(folder, split):
    without_lists(folder)
    assert list(samples(data.load(folder, split=split))) == list(NAMES)
    with pytest.raises(FileNotFoundError, match=r"no .*test\.txt.*split='all' takes all 3 images"):
        data.load(folder, split="test")


def test_without_lists_a_seed_chooses_train_and_val(folder):
    without_lists(folder)
    parts = {split: data.load(folder, split, split_seed=3) for split in ("train", "val")}
    names = {split: list(samples(part)) for split, part in parts.items()}
    assert names == {split: automatic(NAMES, split, seed=3) for split in parts}
    assert "no " in parts["val"].notes[0]
    assert "val_share=0.2 and split_seed=3" in parts["val"].notes[0]
    assert {tuple(samples(data.load(folder, "val", split_seed=seed))) for seed in range(6)} > {tuple(names["val"])}
    assert len(data.load(folder, "val", val_share=0.6)) == 2


def test_what_is_in_no_list_is_val_where_val_has_none(folder):
    (folder / "splits" / "val.txt").unlink()
    (folder / "splits" / "train.txt").write_text("a\n")
    (folder / "splits" / "test.txt").write_text("b.c\n")
    source = data.load(folder, "val")
    assert list(samples(source)) == ["sub/d"]
    assert re.search(r"no .*val\.txt: 'val' are 1 of 3 images, all that are in no list", source.notes[0])
    assert list(samples(data.load(folder))) == ["a"]
    (folder / "splits" / "train.txt").write_text("a\nsub/d\nb.c")
    with pytest.raises(FileNotFoundError, match=r"every image is in a list\. val_share=0\.2 takes a fifth"):
        data.load(folder, "val")
    (folder / "splits" / "test.txt").unlink()
    both = [list(samples(data.load(folder, split, val_share=0.4))) for split in ("train", "val")]
    assert (sorted(both[0] + both[1]), len(both[1])) == (sorted(NAMES), 1)
    (folder / "splits" / "val.txt").write_text("a\n")
    with pytest.raises(ValueError, match=r"val_share=0\.4 is for data without a list for val"):
        data.load(folder, "val", val_share=0.4)


def test_a_list_of_ones_own_may_be_called_all(folder):
    (folder / "splits" / "all.txt").write_text("a\n")
    assert list(samples(data.load(folder, split="all"))) == ["a"]


@pytest.mark.parametrize(
    "text", ["a\r\nb.c\r\nsub/d\r\n", "\ufeffa\n\n  b.c \t\nsub/d", "a.png\nb.c.png\nsub/d.png\n", "a.JPG\nb.c\nsub/d"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lists_from_other_systems_and_tools_are_read(folder, text, encoding):
    (folder / "splits" / "train.txt").write_bytes(text.removeprefix("\ufeff" * (encoding != "utf-8")).encode(encoding))
    assert list(samples(data.load(folder))) == list(NAMES)


def test_accents_are_the_same_however_a_system_writes_them(folder):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (folder / "images" / "a.png").rename(folder / "images" / f"{decomposed}.png")
    (folder / "masks" / "a.png").rename(folder / "masks" / f"{composed}.png")
    for text in (composed.encode(), decomposed.encode(), composed.encode("latin-1")):
        (folder / "splits" / "train.txt").write_bytes(text)
        source = data.load(folder)
        assert list(samples(source)) == [composed]
        assert len(source.notes) == (b"\xe9" in text)
    assert re.search(r"train\.txt is not in UTF-8 and was read as Windows-1252 .*'café'", source.notes[0])
    (folder / "classes.txt").write_bytes("sky\nM\u00fcll\ntree".encode("latin-1"))
    assert data.load(folder).classes == ["sky", "Müll", "tree"]


def test_file_names_in_latin_1_are_read(folder):
    try:
        os.rename(folder / "images" / "a.png", os.fsencode(folder / "images") + b"/caf\xe9.png")
        os.rename(folder / "masks" / "a.png", os.fsencode(folder / "masks") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system has no such names")
    assert list(samples(data.load(folder, "all")))[1] == "café"


@pytest.mark.parametrize("ending", ["_mask", "-Label", ".masks", "_gt"])
def test_masks_are_found_by_the_endings_that_tools_give_them(folder, ending):
    for file in list((folder / "masks").rglob("*.png")):
        file.rename(file.with_name(f"{file.stem}{ending}.png"))
    source = data.load(folder, "all")
    assert list(samples(source)) == list(NAMES)
    np.testing.assert_array_equal(samples(source)["a"][1], labels(0))
    write_png(folder / "masks" / "a_seg.png", labels(0))
    with pytest.raises(FileNotFoundError, match=r"masks/a.*, masks/a_seg\.png: only one of them can be meant"):
        data.load(folder, "all")
    write_png(folder / "masks" / "a.png", labels(1))  # the very name goes first
    with pytest.raises(FileNotFoundError, match=r"images/a_seg\.jpg is missing"):
        data.load(folder, "all")
    np.testing.assert_array_equal(samples(data.load(folder))["a"][1], labels(1))


def test_masks_stand_beside_their_images(folder):
    for file in list((folder / "masks").rglob("*.png")):
        file.rename(folder / "images" / file.relative_to(folder / "masks").with_stem(f"{file.stem}_mask"))
    shutil.rmtree(folder / "masks")
    found = samples(data.load(folder, "all"))
    assert list(found) == list(NAMES)
    np.testing.assert_array_equal(found["sub/d"][0], photograph(2))
    np.testing.assert_array_equal(found["sub/d"][1], labels(2))


def test_photographs_and_masks_have_an_ending_each(folder):
    for part, ending in (("images", "_sat"), ("masks", "_mask")):
        (folder / part / "a.png").rename(folder / part / f"a{ending}.png")
    (folder / "splits" / "train.txt").write_text("a_sat")
    np.testing.assert_array_equal(samples(data.load(folder))["a_sat"][1], labels(0))


def test_photographs_without_a_mask_are_background_when_told(folder):
    (folder / "masks" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"masks/a\.png is missing\n1 images have no mask: missing_masks="):
        data.load(folder)
    source = data.load(folder, missing_masks="background")
    assert not samples(source)["a"][1].any()
    assert source.notes == ['1 of 2 images have no mask and are all class 0 (missing_masks="background")']
    (folder / "masks" / "b.c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"none of the 2 samples .*has a mask"):
        data.load(folder, missing_masks="background")


def test_a_jpeg_beside_a_mask_is_no_second_mask(folder):
    write_png(folder / "masks" / "a.jpg", labels(1))
    np.testing.assert_array_equal(samples(data.load(folder))["a"][1], labels(0))


@pytest.mark.parametrize("extensions", [(".jpg", ".JPEG", ".bmp"), (".webp", ".tif", ".TIFF")])
def test_every_kind_of_image_file_is_found(folder, extensions):
    for name, extension in zip(NAMES, extensions, strict=True):
        image = folder / "images" / f"{name}.png"
        done, encoded = cv2.imencode(extension.lower(), cv2.imread(str(image)))
        assert done
        image.with_name(f"{image.stem}{extension}").write_bytes(encoded.tobytes())
        image.unlink()
    assert list(samples(data.load(folder, split="all"))) == list(NAMES)


@pytest.mark.slow
def test_an_epoch_is_a_permutation_that_seed_and_number_decide(folder):
    source = data.load(folder, split="all")
    orders = {
        (seed, epoch): tuple(samples(source, shuffle_seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in range(8)
    }
    assert all(sorted(order) == sorted(NAMES) for order in orders.values())
    assert len(set(orders.values())) > 3
    assert [orders[0, epoch] for epoch in range(8)] != [orders[1, epoch] for epoch in range(8)]
    assert orders == {key: tuple(samples(source, shuffle_seed=key[0], epoch=key[1])) for key in orders}


def test_the_classes_may_be_given_or_counted(folder):
    assert data.load(folder, classes=["x", "y", "z"]).classes == ["x", "y", "z"]
    with pytest.raises(ValueError, match=r"num_classes=4, but .*classes\.txt has 3"):
        data.load(folder, num_classes=4)
    (folder / "classes.txt").write_bytes("\ufeffsky\r\nbare ground \r\ntree\r\n\r\n".encode())
    assert data.load(folder).classes == ["sky", "bare ground", "tree"]
    (folder / "classes.txt").unlink()
    assert data.load(folder, num_classes=3).classes == ["class 0", "class 1", "class 2"]
    with pytest.raises(ValueError, match=r"no .*classes\.txt.*num_classes="):
        data.load(folder)
    with pytest.raises(ValueError, match="256 classes; labels are 8-bit"):
        data.load(folder, num_classes=256)


def test_paletted_masks_give_the_same_labels(folder):
    for number, name in enumerate(NAMES):
        write_label_png(folder / "masks" / f"{name}.png", labels(number))
    for encoding in ("auto", "palette"):
        for number, (_, label) in enumerate(samples(data.load(folder, "all", mask_encoding=encoding)).values()):
            np.testing.assert_array_equal(label, labels(number))
    with pytest.raises(ValueError, match=r"masks/a\.png is paletted"):
        data.load(folder, "all", mask_encoding="grey").check()


def test_rgb_coded_masks_give_the_same_labels(folder):
    colors = [(0, 128, 255), (40, 30, 20), (0, 255, 0)]
    for number, name in enumerate(NAMES):
        coded = np.full((*labels(number).shape, 3), 255, np.uint8)
        for label, color in enumerate(colors):
            coded[labels(number) == label] = color
        write_png(folder / "masks" / f"{name}.png", coded)
    source = data.load(folder, "all", colors={**{color: label for label, color in enumerate(colors)}, (255,) * 3: 255})
    for number, (_, label) in enumerate(samples(source).values()):
        np.testing.assert_array_equal(label, labels(number))
    np.testing.assert_array_equal(source.palette[:3], colors)
    with pytest.raises(ValueError, match=r"masks/a\.png has the colour \(255, 255, 255\) at row 0, column 0"):
        data.load(folder, "all", colors=colors).check()
    with pytest.raises(ValueError, match=r"masks/a\.png has three channels.*colors="):
        data.load(folder, "all").check()


def test_the_record_of_the_classes(folder):
    assert data.load(folder).classes_spec == Classes(CLASSES)
    (folder / "classes.txt").unlink()
    source = data.load(folder, num_classes=3)
    assert (source.classes_spec, source.num_classes) == (Classes(), 3)
    shown = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert data.load(folder, num_classes=3, palette=shown).classes_spec == Classes(None, tuple(shown))
    with pytest.raises(ValueError, match=r"received 2 colours .*has 3 classes"):
        data.load(folder, num_classes=3, palette=shown[:2])
    (folder / "names.txt").write_text("x\ny\nx\n")
    with pytest.raises(ValueError, match=r"names\.txt: .*'x' more than once"):
        data.load(folder, classes=folder / "names.txt")


def test_a_file_of_colours_is_in_the_record_and_reads_rgb_coded_masks_alone(folder):
    colors = ((0, 128, 255), (40, 30, 20), (0, 255, 0))
    (folder / "colors.txt").write_text("0 128 255\n40,30,20\n\n0 255 0\n")
    source = data.load(folder, "all")
    assert source.classes_spec == Classes(CLASSES, colors)
    np.testing.assert_array_equal(source.palette[:4], [*colors, voc_palette()[3]])
    coded = np.array(colors, np.uint8)[labels(0) % 3]
    write_png(folder / "masks" / "a.png", coded)
    for number, (name, (_, label)) in enumerate(samples(source).items()):
        np.testing.assert_array_equal(label, labels(number) % 3 if name == "a" else labels(number))
    given = data.load(folder, "all", colors=folder / "colors.txt", palette=colors[::-1])
    assert given.classes_spec.colors == colors[::-1]
    (folder / "splits" / "train.txt").write_text("a")
    np.testing.assert_array_equal(samples(data.load(folder, mask_encoding="rgb"))["a"][1], labels(0) % 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [("0 0 0\n1 1 1\n", "has 2 colours for 3 classes"), ("0 0 0\n1 1\n2 2 2\n", "line 2: '1 1' is not three numbers")],
)
def test_a_file_of_colours_that_does_not_fit_is_refused(folder, text, message):
    (folder / "colors.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"colors\.txt.*{message}"):
        data.load(folder)


def test_the_colours_of_a_palette_are_not_taken_for_those_of_the_classes(folder):
    for number, name in enumerate(NAMES):
        write_label_png(folder / "masks" / f"{name}.png", labels(number), np.full((256, 3), 9, np.uint8))
    assert data.load(folder, "all").classes_spec == Classes(CLASSES)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_images_of_other_channels_go_through_the_pipeline(folder, channels):
    stored = {}
    for number, name in enumerate(NAMES):
        (folder / "images" / f"{name}.png").unlink()
        stored[name] = np.random.default_rng(number).integers(0, 256, (10, 14, channels), np.uint8)
        np.save(folder / "images" / f"{name}.npy", stored[name])
    source = data.load(folder, "all", channels=channels)
    assert source.channels == channels
    for name, (image, _) in samples(source).items():
        np.testing.assert_array_equal(image, stored[name])
    dataset = pipeline.training(source, batch_size=2, crop_size=(9, 11))
    assert dataset.element_spec[0].shape == (2, 9, 11, channels)
    images, found = next(iter(dataset))
    assert images.shape == (2, 9, 11, channels)
    padding = np.all(images.numpy() == 127.5, -1)
    assert (found.numpy()[padding] == 255).all()
    assert next(iter(pipeline.evaluation(source)))["image"].shape == (10, 14, channels)
    with pytest.raises(ValueError, match=rf"saturation=0.2.* have {channels} channels"):
        pipeline.training(source, batch_size=2, crop_size=9, saturation=0.2)
    with pytest.raises(ValueError, match=rf"a\.npy has {channels} channels?, and 3 are expected: give channels="):
        data.load(folder, "all").check()


@pytest.mark.parametrize("channels", [0, True, "4"])
def test_impossible_numbers_of_channels_are_refused(folder, channels):
    with pytest.raises(ValueError, match="channels must be a positive integer"):
        data.load(folder, channels=channels)


def test_missing_files_are_all_named_at_once(folder):
    (folder / "images" / "a.png").unlink()
    (folder / "masks" / "sub" / "d.png").unlink()
    (folder / "splits" / "train.txt").write_text("\n".join([*NAMES, *(f"n{number}" for number in range(20))]))
    with pytest.raises(FileNotFoundError) as raised:
        data.load(folder)
    message = str(raised.value)
    for expected in ("train.txt", "23 samples", "42 problems", "images/a.jpg is missing", "masks/sub/d.png is missing"):
        assert expected in message
    assert "n3" in message
    assert "n4" not in message
    assert "and 32 more" in message


def test_what_all_would_leave_out_is_named(folder):
    (folder / "masks" / "a.png").unlink()
    (folder / "images" / "b.c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)masks/a\.png is missing.*images/b\.c\.jpg is missing"):
        data.load(folder, split="all")


def test_two_images_of_one_name_are_refused(folder):
    write_png(folder / "images" / "a.bmp", photograph(0))
    with pytest.raises(FileNotFoundError, match=r"images/a\.bmp, images/a\.png: only one"):
        data.load(folder)


@pytest.mark.parametrize("text", ["", "\n \r\n"])
def test_an_empty_list_is_refused(folder, text):
    (folder / "splits" / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=r"train\.txt lists no image"):
        data.load(folder)


@pytest.mark.parametrize("text", ["a\nb.c\na\n", "a\nb.c\na.png\n"])
def test_a_name_listed_twice_is_refused(folder, text):
    (folder / "splits" / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=r"(?s)lists 1 names more than once:\n  a$"):
        data.load(folder)


def test_folders_that_are_not_there_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no data set .*nowhere"):
        data.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no data set 'sythetic'.*'synthetic'"):
        data.load("sythetic")
    with pytest.raises(ValueError, match=r"no data set that can be recognised.*It holds: photographs"):
        data.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no .*test\.txt\. splits/ has train, val\."):
        data.load(folder, split="test")
    (folder / "masks").rename(folder / "annotations")
    with pytest.raises(FileNotFoundError, match=r"no folder masks/, nor masks images/NAME_mask\.png"):
        data.load(folder)


def damage(folder, name):
    """Make the pair `name` unusable in a way of its own; return what its error must say."""
    image, mask = folder / "images" / f"{name}.png", folder / "masks" / f"{name}.png"
    if name == "a":
        image.write_bytes(image.read_bytes()[:-30])
        return "images/a.png is cut short"
    if name == "b.c":
        write_png(mask, labels(1, (14, 10)))
        return "masks/b.c.png is 10x14 pixels, but its image"
    write_png(mask, labels(2).astype(np.uint16) * 2)
    return "masks/sub/d.png holds 4"


def test_check_counts_the_labels(folder):
    counts = data.load(folder, split="all").check()
    expected = sum(np.bincount(labels(number).ravel(), minlength=256) for number in range(len(NAMES)))
    np.testing.assert_array_equal(counts, expected)


def test_check_names_every_file_that_can_not_be_used(folder):
    expected = [damage(folder, name) for name in NAMES]
    with pytest.raises(ValueError, match="3 of the 3 samples") as raised:
        data.load(folder, split="all").check()
    for message in expected:
        assert message in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_reading_stops_at_a_bad_file_and_names_it(folder, name):
    expected = damage(folder, name)
    with pytest.raises(ValueError) as raised, data.readable_errors():  # noqa: PT011 - compared below
        samples(data.load(folder, split="all"))
    assert expected in str(raised.value)
    assert "Traceback" not in str(raised.value)


def test_a_file_that_vanishes_later_is_named(folder):
    source = data.load(folder)
    (folder / "masks" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"masks/a\.png"), data.readable_errors():
        samples(source)
    with pytest.raises(ValueError, match=r"1 of the 2 samples(?s:.*)masks/a\.png"):
        source.check()


def test_other_errors_pass_through_unchanged():
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError), data.readable_errors():
        tf.reshape(tf.zeros(3), [2])
    with pytest.raises(KeyError), data.readable_errors():
        raise KeyError("other")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sizes", "classes"), [("idd_lite", (1403, 204), 7), ("voc_person", (393, 401), 21)])
def test_real_photographs(shared, name, sizes, classes):
    for split, size in zip(("train", "val"), sizes, strict=True):
        source = data.load(shared / "data" / name, split=split)
        assert (len(source), source.num_classes) == (size, classes)
    counts = source.check()
    assert counts[:classes].all()
    assert counts[255]
    assert not counts[classes:255].any()
