"""The data doctor on folders: what is in the files, the command, the page, and the check before a training."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from test_data_doctor import CLASSES, SIZE, kinds, scenes, the

from keras_deeplab import data
from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.cli import main
from keras_deeplab.data import doctor
from keras_deeplab.data.doctor.files import files_of, stored
from keras_deeplab.data.mask_files import read_mask
from keras_deeplab.data.masks import write_label_png
from keras_deeplab.data.source import indexed


@pytest.fixture
def folder(tmp_path):
    """Sixteen drawn images and masks as files, twelve of them to train on."""
    root = tmp_path / "photographs"
    for sub in ("images", "masks", "splits"):
        (root / sub).mkdir(parents=True)
    for number, (image, label) in enumerate(scenes(16)):
        write_image(root / "images" / f"im{number:02}.png", image)
        write_label_png(root / "masks" / f"im{number:02}.png", label)
    names = [f"im{number:02}" for number in range(16)]
    (root / "splits" / "train.txt").write_text("\n".join(names[:12]))
    (root / "splits" / "val.txt").write_text("\n".join(names[12:]))
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def write_image(path, image):
    pixels = image if image.ndim == 2 else image[..., [2, 1, 0, *range(3, image.shape[-1])]]
    assert cv2.imwrite(str(path), pixels)


def rewrite(folder, change, kind="masks", extension=".png"):
    """Each file of a kind as a function makes it from the numbers that it had."""
    for file in sorted((folder / kind).iterdir()):
        pixels = change(numbers(file) if kind == "masks" else stored(file))
        file.unlink()
        write_image(file.with_suffix(extension), pixels)


def numbers(mask):
    return read_mask(mask).values


def examined(folder, **reading):
    parts = {}
    for split in ("train", "val"):
        try:
            parts[split] = data.load(folder, split, **reading)
        except (ValueError, OSError) as error:
            parts[split] = error
    return doctor.examine(parts, folder, reading=reading, crop_size=SIZE)


def oriented(path, orientation):
    """Rewrites an image as a JPEG whose EXIF data say how it is to be turned."""
    _, encoded = cv2.imencode(".jpg", cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 95])
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    part = b"Exif\0\0" + tiff
    jpeg = encoded.tobytes()
    path.unlink()
    path.with_suffix(".jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part + jpeg[2:])


def test_a_sound_folder_is_only_small(folder):
    found = examined(folder)
    assert kinds(found) == ["few_samples"]
    assert found.summary().splitlines()[0] == "train: 12 samples, 48x32, 3 classes"
    table = [line.split() for line in found.shares().splitlines()]
    assert table[0][-2:] == ["train", "val"]
    pixels = np.array([np.bincount(label.reshape(-1), minlength=3) for _, label in scenes(16)])
    expected = [100 * part.sum(0) / part.sum() for part in (pixels[:12], pixels[12:])]
    shown = [[float(cell.rstrip("%")) for cell in row[1:]] for row in table[1:4]]
    np.testing.assert_allclose(np.transpose(shown), expected, atol=0.5)
    assert table[4] == ["(ignored)", "0%", "0%"]
    assert len(found.evidence.files.pairs) == 16


def test_masks_of_black_and_white_are_said_to_be_two_classes(folder):
    (folder / "classes.txt").write_text("background\ncrack\n")
    black_and_white(folder)
    assert "mask_encoding=\"binary\" reads 0 as 'background'" in the(examined(folder), "refused").text
    finding = the(examined(folder, mask_encoding="grey"), "one_class")
    assert "The masks hold 0 and 255 and nothing else, so 255 seems to be the second class" in finding.text
    assert "mask_encoding='binary'" in finding.remedy
    assert kinds(examined(folder, mask_encoding="binary")) == ["few_samples"]
    black_and_white(folder, 200)
    assert "0 and 200 alone" in the(examined(folder), "mask_numbers").text


def black_and_white(folder, light=255):
    rewrite(folder, lambda mask: np.where(mask == mask.max(), light, 0).astype(np.uint8))


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda mask: mask + 1, "label_offset=-1"),
        (lambda mask: mask * 127, "colors=[(0, 0, 0), (127, 127, 127), (254, 254, 254)]"),
    ],
)
def test_numbers_that_are_no_labels_tell_what_is_meant(folder, change, remedy):
    rewrite(folder, change)
    finding = the(examined(folder), "mask_numbers")
    assert (finding.severity, remedy in finding.remedy) == ("error", True)


def test_blended_masks_are_an_error_and_jpeg_masks_are_told(folder):
    (folder / "classes.txt").write_text("background\ncrack\n")
    rewrite(folder, lambda mask: cv2.GaussianBlur(np.where(mask == 1, 255, 0).astype(np.uint8), (0, 0), 1.5))
    finding = the(examined(folder), "blended_masks")
    assert finding.severity == "error"
    assert "16 of 16 masks have more colours or numbers than classes" in finding.text
    assert "mask_repair='nearest'" in finding.remedy
    rewrite(folder, lambda mask: np.where(mask > 127, 255, 0).astype(np.uint8), extension=".jpg")
    assert "16 of 16 masks have been saved as JPEG" in the(examined(folder), "blended_masks").text


def test_shapes_in_the_alpha_channel_are_an_error(folder):
    def as_alpha(mask):
        return np.dstack([np.zeros((*mask.shape, 3), np.uint8), np.where(mask == 1, 255, 0).astype(np.uint8)])

    rewrite(folder, as_alpha)
    finding = the(examined(folder), "mask_alpha")
    assert finding.severity == "error"
    assert "their shape is in the alpha alone" in finding.text
    assert "mask_encoding='alpha'" in finding.remedy


@pytest.mark.parametrize(("orientation", "fitting"), [(3, "upright"), (3, "stored"), (6, "upright"), (6, "stored")])
def test_which_way_photographs_are_meant_is_told_by_sizes_or_by_edges(folder, orientation, fitting):
    turns = {3: 2, 6: -1}[orientation]
    for file in sorted((folder / "images").iterdir()):
        oriented(file, orientation)
        mask = folder / "masks" / file.name
        if fitting == "upright":
            write_label_png(mask, np.ascontiguousarray(np.rot90(numbers(mask), turns)))
    found = doctor.examine({}, folder, reading={"orientation": "stored" if fitting == "upright" else "upright"})
    finding = the(found, "orientation")
    assert finding.severity == "error"
    assert "16 photographs of 16 have an EXIF orientation" in finding.text
    assert f"orientation={fitting!r}" in finding.remedy
    if orientation == 3:
        assert "16 pairs compared" in finding.text
    assert the(doctor.examine({}, folder, reading={"orientation": fitting}), "orientation").severity == "note"


def test_what_a_reader_of_its_own_makes_of_its_files_is_not_doubted(folder, monkeypatch):
    """Public data sets have numbers and photographs that look odd, and readers that know."""
    rewrite(folder, lambda mask: mask + 1)
    for file in sorted((folder / "images").iterdir()):
        oriented(file, 3)
    rows = SimpleNamespace(detect=lambda text: False, read=lambda location, split: None)
    monkeypatch.setitem(data.READERS, "mine", rows)
    source = indexed("drawn", list(CLASSES), 16, lambda index: (*scenes(16)[index], f"im{index:02}"))
    assert kinds(doctor.examine({"train": source}, f"mine:{folder}")) == ["few_samples"]


def test_photographs_of_which_some_masks_fit_one_way_and_some_the_other_are_an_error(folder):
    for place, file in enumerate(sorted((folder / "images").iterdir())):
        oriented(file, 6)
        mask = folder / "masks" / file.name
        if place % 2:
            write_label_png(mask, np.ascontiguousarray(np.rot90(numbers(mask), -1)))
    finding = the(doctor.examine({}, folder), "orientation")
    assert (finding.severity, "8 masks fit stored, 8 masks fit upright" in finding.text) == ("error", True)


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_images_of_more_than_8_bits_are_told_with_their_range(folder, extension):
    rewrite(folder, lambda image: image.astype(np.uint16) * 16, "images", extension)
    finding = the(examined(folder), "bit_depth")
    assert finding.severity == "error"
    assert "16 of 16 images have 16 bits a channel, and the largest number is 3520, of 12 bits" in finding.text
    assert finding.remedy.startswith("image_range=(0, 4095)")
    assert kinds(examined(folder, image_range=(0, 4095))) == ["few_samples"]
    found = examined(folder, image_range=(0, 65535))
    assert "image_range=" in the(found, "dark_images").remedy


def test_images_of_differing_kinds_and_alpha_are_told(folder):
    file = folder / "images" / "im03.png"
    image = stored(file)
    write_image(file, image[..., 0])
    finding = the(examined(folder), "mixed_files")
    assert "15 images of 3, 1 image of 1" in finding.text
    assert finding.details == ("im03.png",)
    alpha = np.zeros((*SIZE, 1), np.uint8)
    alpha[4:9] = 200
    write_image(file, np.concatenate([image, alpha], -1))
    finding = the(examined(folder), "mixed_files")
    assert (finding.severity, "channels=4" in finding.remedy) == ("note", True)


def test_masks_of_another_size_and_lone_files_are_listed(folder):
    rewrite(folder, lambda mask: mask[:30])
    finding = the(examined(folder), "mask_sizes")
    assert finding.severity == "error"
    assert finding.details[0] == "im00: image 48x32, mask 48x30"
    (folder / "masks" / "im04.png").unlink()
    (folder / "masks" / "im05.png").rename(folder / "masks" / "other.png")
    images, masks = [each for each in examined(folder).findings if each.kind == "unpaired_files"]
    assert images.details == ("im04", "im05")
    assert "missing_masks='background'" in images.remedy
    assert masks.details == ("other",)


@pytest.mark.parametrize(
    "layout",
    [
        ("images/{}.png", "masks/{}.png"),
        ("images/{}.png", "masks/{}_mask.png"),
        ("VOCdevkit/VOC2012/JPEGImages/{}.png", "VOCdevkit/VOC2012/SegmentationClass/{}.png"),
        ("train/{}.png", "train/{}_mask.png"),
    ],
)
def test_images_and_masks_of_all_layouts_are_paired(tmp_path, layout):
    for name, (image, label) in zip("ab", scenes(2), strict=True):
        for pattern, pixels in zip(layout, (image, label), strict=True):
            path = tmp_path / pattern.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, pixels)
    files = files_of(tmp_path)
    assert len(files.pairs) == 2
    assert files.lone_images == files.lone_masks == ()
    assert set(files.pairs[0][2].values) == {0, 1, 2}


def test_marked_and_linked_folders_are_looked_into(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for sub in ("images", "masks", "splits", "classes.txt"):
        (linked / sub).symlink_to(folder / sub)
    (folder / "masks" / "back").symlink_to(folder)
    assert len(files_of(linked).pairs) == 16
    assert len(doctor.examine({}, f"folder:{folder}").evidence.files.pairs) == 16


def test_stored_numbers_are_those_of_the_file(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(tmp_path / "array.npy", labels)
    np.testing.assert_array_equal(stored(tmp_path / "array.npy"), labels)
    colours = np.random.default_rng(0).integers(0, 65536, (3, 4, 4), np.uint16)
    for extension in (".png", ".tif"):
        write_image(tmp_path / f"deep{extension}", colours)
        np.testing.assert_array_equal(stored(tmp_path / f"deep{extension}"), colours)


def test_the_command_tells_the_worst_first_in_flags_and_ends_with_1(folder, tmp_path, capsys):
    assert main(["check-data", str(folder), "--crop-size", "32x48"]) == 0
    assert "note: train has 12 samples" in capsys.readouterr().out
    (folder / "classes.txt").write_text("background\ncrack\n")
    black_and_white(folder)
    page = tmp_path / "<page>.html"
    arguments = ["check-data", str(folder), "--crop-size", "129", "--html", str(page)]
    assert main(arguments) == 1
    assert "error: train and val can't be read: the masks of" in capsys.readouterr().out
    assert main([*arguments, "--mask-encoding", "grey"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.partition(":")[0] in doctor.SEVERITIES]
    severities = [line.partition(":")[0] for line in lines]
    assert severities == sorted(severities, key=doctor.SEVERITIES.index)
    assert severities[:2] == ["error", "warning"]
    text = page.read_text("utf-8")
    assert "--mask-encoding binary" in text
    assert text.count("data:image/png;base64") >= 4
    assert "--html" not in text


def test_the_command_goes_on_where_a_split_can_not_be_read(folder, capsys):
    (folder / "splits" / "val.txt").unlink()
    (folder / "images" / "im02.png").write_bytes(b"nothing")
    assert main(["check-data", str(folder), "--crop-size", "32x48"]) == 1
    out = capsys.readouterr().out
    assert "error: 1 sample of 12 in train can't be used" in out
    assert "im02.png can't be decoded" in out
    assert main(["check-data", str(folder), "--augmented"]) == 1
    assert "doesn't take --augmented" in capsys.readouterr().err


def test_training_refuses_data_with_errors_and_tells_warnings(folder, tmp_path, capsys):
    arguments = ["train", str(folder), "--run-dir", str(tmp_path / "run"), "--steps", "1", "--backbone", "no"]
    (folder / "splits" / "val.txt").write_text("im00\nim13")
    assert main([*arguments, "--crop-size", "129"]) == 1  # for the backbone, after the data is checked
    captured = capsys.readouterr()
    assert "Unknown backbone" in captured.err
    assert "warning: 1 image of 2 in val is in train too" in captured.out
    assert "-> --crop-size 32x48 fits the images" in captured.out
    assert "note:" not in captured.out
    (folder / "classes.txt").write_text("background\ncrack\n")
    black_and_white(folder)
    arguments += ["--mask-encoding", "grey"]
    assert main(arguments) == 1
    assert "the data can't be trained on as it is.\nerror: every labelled pixel" in capsys.readouterr().err
    assert main([*arguments, "--no-check-data"]) == 1
    assert "Unknown backbone" in capsys.readouterr().err
