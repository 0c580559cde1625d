"""What a reader refuses or says before every file is read: black and white, JPEG masks, repairs, EXIF orientations."""

import numpy as np
import pytest
from PIL import Image

from keras_deeplab import data

SIZE = (24, 40)


def truth(number):
    label = np.zeros(SIZE, np.uint8)
    label[3 + number : 12 + number, 2:17] = 1
    return label


def photograph(label):
    """Dark where the label is 0, bright where it is 1, with some noise."""
    noise = np.random.default_rng(0).integers(0, 40, (*label.shape, 3))
    return (noise + 150 * label[..., None]).astype(np.uint8)


def saved(path, picture, orientation=1, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, exif=exif, quality=95, **options)


@pytest.fixture
def make(tmp_path):
    """A function that writes a data set of three samples of two classes, and returns its folder."""

    def write(mask_of=lambda label: label, kind="png", orientation=1, names=("background", "crack")):
        for number, name in enumerate("abc"):
            saved(tmp_path / "images" / f"{name}.jpg", photograph(truth(number)), orientation)
            saved(tmp_path / "masks" / f"{name}.{kind}", mask_of(truth(number)))
        (tmp_path / "splits").mkdir(exist_ok=True)
        (tmp_path / "splits" / "train.txt").write_text("a\nb\n")
        (tmp_path / "splits" / "val.txt").write_text("c\n")
        (tmp_path / "classes.txt").write_text("\n".join(names))
        return tmp_path

    return write


def labels_of(source):
    return [sample["label"].numpy() for sample in source.dataset()]


@pytest.mark.parametrize("names", [("background", "crack"), ("crack",)])
@pytest.mark.parametrize(("white", "dtype"), [(255, np.uint8), (65535, np.uint16)])
def test_black_and_white_masks_are_refused_with_the_option_that_reads_them(make, names, white, dtype):
    folder = make(lambda label: label.astype(dtype) * white, names=names)
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=rf'hold 0 and {white} alone.*mask_encoding="binary" reads .* as .crack.'):
            data.load(folder, split)
    source = data.load(folder, mask_encoding="binary")
    assert source.classes == ["background", "crack"]
    np.testing.assert_array_equal(labels_of(source), [truth(0), truth(1)])
    with pytest.raises(ValueError, match="for two classes; here are 3"):
        data.load(folder, classes=["a", "b", "c"])


def test_ignored_borders_beside_one_class_are_no_second_class_where_other_masks_tell_more(make):
    folder = make()
    border = truth(2) * 255
    saved(folder / "masks" / "c.png", border)
    np.testing.assert_array_equal(labels_of(data.load(folder, "val")), [border])
    for name in "ab":
        saved(folder / "masks" / f"{name}.png", border)
    with pytest.raises(ValueError, match="hold 0 and 255 alone"):
        data.load(folder, "val")
    np.testing.assert_array_equal(labels_of(data.load(folder, "val", mask_encoding="grey")), [border])


def test_masks_of_nothing_but_background_are_not_taken_for_black_and_white(make):
    assert not np.any(labels_of(data.load(make(lambda label: label * 0))))


def test_jpeg_masks_are_read_with_a_warning_and_the_share_that_is_moved(make):
    folder = make(lambda label: label * 255, kind="jpg")
    source = data.load(folder, mask_encoding="binary", mask_repair="nearest")
    np.testing.assert_array_equal(labels_of(source), [truth(0), truth(1)])
    stored = np.stack([np.array(Image.open(folder / "masks" / f"{name}.jpg")) for name in "ab"])
    share = np.mean((stored > 0) & (stored < 255))
    assert source.notes[0].startswith("2 of 2 masks are JPEG files")
    assert source.notes[1].startswith(f'mask_repair="nearest" moves {share:.2%} of the pixels of the 2 masks')
    assert share > 0.01


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_masks_are_drawn_for_upright_photographs(make, orientation):
    folder = make(orientation=orientation)
    turned = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a, -1)}[orientation]
    for number, name in enumerate("abc"):
        saved(folder / "masks" / f"{name}.png", turned(truth(number)))
    source = data.load(folder)
    assert len(source.notes) == 1
    assert source.notes[0].startswith("2 of 2 images that were looked at have an EXIF orientation")
    assert 'orientation="upright"' in source.notes[0]
    for sample, number in zip(source.dataset(), (0, 1), strict=True):
        np.testing.assert_array_equal(sample["label"], turned(truth(number)))
        bright = sample["image"].numpy().mean(-1) > 100
        assert np.mean(bright == (sample["label"].numpy() == 1)) > 0.98
    stored = data.load(folder, orientation="stored")
    if orientation == 6:
        with pytest.raises(ValueError, match=r'a\.png is 24x40 .* is 40x24 \(as stored.*orientation="upright" fits'):
            stored.check()
    else:
        assert 'They fit better the other way: orientation="upright"' in stored.notes[0]


def test_masks_drawn_for_photographs_as_stored_are_read_by_option(make):
    folder = make(orientation=6)
    with pytest.raises(ValueError, match=r'turned by its EXIF orientation, 6; orientation="stored" fits the mask'):
        data.load(folder).check()
    source = data.load(folder, orientation="stored")
    np.testing.assert_array_equal(labels_of(source), [truth(0), truth(1)])
    saved(folder / "masks" / "a.png", truth(0)[1:])
    with pytest.raises(ValueError, match=r"\(as stored, without its EXIF orientation, 6\)"):
        source.check()
    folder = make(orientation=3)
    assert 'They fit better the other way: orientation="stored"' in data.load(folder).notes[0]


def test_ordinary_data_have_no_notes(make):
    assert data.load(make()).notes == []


def test_data_in_vocs_layout_are_read_the_same_way(make):
    folder = make(lambda label: label * 255, orientation=6)
    (folder / "ImageSets").mkdir()
    for old, new in (("images", "JPEGImages"), ("masks", "SegmentationClass"), ("splits", "ImageSets/Segmentation")):
        (folder / old).rename(folder / new)
    with pytest.raises(ValueError, match="hold 0 and 255 alone"):
        data.load(folder)
    options = {"mask_encoding": "binary", "orientation": "stored"}
    np.testing.assert_array_equal(labels_of(data.load(folder, **options)), [truth(0), truth(1)])
    (folder / "classes.txt").write_text("crack")
    assert data.load(folder, **options).classes == ["background", "crack"]
    (folder / "SegmentationClass" / "a.png").unlink()
    source = data.load(folder, missing_masks="background", **options)
    np.testing.assert_array_equal(labels_of(source), [truth(0) * 0, truth(1)])
    for file in (folder / "ImageSets" / "Segmentation").iterdir():
        file.unlink()
    assert len(data.load(folder, "val", missing_masks="background", val_share=0.5, **options)) == 2


def test_impossible_options_are_refused(make):
    folder = make()
    with pytest.raises(ValueError, match="image_range must be two numbers, the first below the second; received 9,3"):
        data.load(folder, image_range=(9, 3))
    with pytest.raises(ValueError, match="orientation must be one of upright, stored"):
        data.load(folder, orientation="left")


def test_wide_images_of_several_channels_go_with_their_masks(make):
    folder = make()
    wide = np.random.default_rng(0).integers(0, 4096, (*SIZE, 5)).astype(np.uint16)
    for name in "abc":
        (folder / "images" / f"{name}.jpg").unlink()
        np.save(folder / "images" / f"{name}.npy", wide)
    with pytest.raises(ValueError, match=r"images/a\.npy has pixels of uint16, .*image_range="):
        data.load(folder, channels=5).check()
    for sample in data.load(folder, channels=5, image_range=(0, 4095)).dataset():
        np.testing.assert_allclose(sample["image"], wide / 4095 * 255, atol=0.501)


def test_prediction_has_the_convention_of_the_data(make, tmp_path):
    from keras_deeplab.data.settings import ImageOptions
    from keras_deeplab.inference.files import segment_files

    folder = make(orientation=6)
    seen = []

    def predict(image):
        seen.append(image)
        return np.zeros(image.shape[:2], np.uint8)

    for orientation in ("upright", "stored"):
        reading = ImageOptions(orientation=orientation)
        segment_files(predict, folder / "images" / "a.jpg", tmp_path / "out", progress=False, reading=reading)
    Image.fromarray(truth(0).astype(np.uint16) * 4095).save(tmp_path / "wide.png")
    lines = []
    _, failures = segment_files(predict, tmp_path / "wide.png", tmp_path / "out", progress=False, log=lines.append)
    assert len(failures) == 1
    assert "image_range=" in lines[0]
    reading = ImageOptions(image_range=(0, 4095))
    segment_files(predict, tmp_path / "wide.png", tmp_path / "out", progress=False, reading=reading)
    np.testing.assert_array_equal(seen[-1], np.repeat(truth(0)[..., None] * 255, 3, -1))
    image = Image.open(folder / "images" / "a.jpg")
    np.testing.assert_array_equal(seen[1], np.array(image))
    np.testing.assert_array_equal(seen[0], np.rot90(np.array(image), -1))
    Image.fromarray(np.rot90(truth(0), -1)).save(folder / "masks" / "a.png")
    np.testing.assert_array_equal(next(iter(data.load(folder).dataset()))["image"], seen[0])
