"""COCO with VOC's classes on a miniature of its archives; outlines as pycocotools fills them."""

import json

import data_sets
import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab.data.coco_voc import fill
from keras_deeplab.specs import class_names

# pycocotools 2.0.11: decode(frPyObjects([polygon], 12, 17)).
STAR = [2.3, 1.4, 14.6, 3.2, 16.9, 10.7, 9.1, 6.2, 4.4, 11.8, 0.7, 7.5]
FILLED_STAR = """
.................
..#..............
..########.......
..#############..
..#############..
.##############..
.########.######.
.#######....####.
..#####......###.
...###.........##
...##............
....#............
"""
BOX = [12.5, 0.5, 16.2, 0.5, 16.2, 5.5, 12.5, 5.5]  # columns 13 to 15, rows 1 to 5

# Ids of COCO that torchvision's references give the labels 1 to 20, by VOC's names.
IDS = """aeroplane 5, bicycle 2, bird 16, boat 9, bottle 44, bus 6, car 3, cat 17, chair 62, cow 21, diningtable 67,
dog 18, horse 19, motorbike 4, person 1, pottedplant 64, sheep 20, sofa 63, train 7, tvmonitor 72"""
IDS = {entry.split()[0]: int(entry.split()[1]) for entry in IDS.split(",")}
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)


def drawn(text):
    return np.array([[sign == "#" for sign in row] for row in text.split()])


def categories():
    names = class_names.COCO_STUFF_182.names
    return [{"id": number, "name": names[number - 1]} for number in range(1, 91) if number not in GAPS]


def annotation(image, category, segmentation, area=2000.0, crowd=0):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, "area": area, "iscrowd": crowd}


@pytest.fixture
def coco(tmp_path):
    """Four photographs of train, of which one has too little and one nothing of VOC's classes, and two of val."""
    annotations = {
        "train": [
            annotation(1, IDS["cat"], [STAR]),
            annotation(1, IDS["person"], [BOX]),
            annotation(1, 75, [[0, 0, 17, 0, 17, 12, 0, 12]]),  # a remote, none of VOC's classes
            annotation(2, IDS["dog"], [STAR], area=1000.0),
            annotation(3, 75, [STAR]),
            annotation(4, IDS["sheep"], {"counts": [12, 24, 168], "size": [12, 17]}, crowd=1),
        ],
        "val": [annotation(5, IDS["sheep"], [BOX, STAR], area=1.0)],
    }
    images = {}
    for split, numbers in (("train", (1, 2, 3, 4)), ("val", (5, 6))):
        entries = []
        for number in numbers:
            name = f"{number:012}"
            images[name] = data_sets.photograph(tmp_path / f"{split}2017/{name}.jpg", number)
            entries.append({"id": number, "file_name": f"{name}.jpg", "height": 12, "width": 17})
        content = {"images": entries, "annotations": annotations[split], "categories": categories()}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return tmp_path, images


def found(source):
    return {item["name"].numpy().decode(): (item["image"].numpy(), item["label"].numpy()) for item in source.dataset()}


def test_objects_of_vocs_classes_are_drawn_as_torchvisions_references_do(coco):
    root, images = coco
    source = data.load(f"coco_voc:{root}")
    assert source.classes == list(class_names.VOC.names)
    samples = found(source)
    assert list(samples) == ["000000000001", "000000000004"]
    for name, (image, _) in samples.items():
        np.testing.assert_array_equal(image, images[name])
    star, box = drawn(FILLED_STAR), np.zeros((12, 17), bool)
    box[1:6, 13:16] = True
    label = np.where(star & box, 255, np.where(star, 8, np.where(box, 15, 0)))
    assert (label == 255).any()
    np.testing.assert_array_equal(samples["000000000001"][1], label)
    crowd = np.zeros((12, 17))
    crowd[:, 1:3] = 17
    np.testing.assert_array_equal(samples["000000000004"][1], crowd)
    assert source.notes == ["4 images; COCO has 118,287"]


def test_of_val_every_photograph_counts_and_images_may_lie_apart(coco):
    root, _ = coco
    (root / "val2017").rename(root / "elsewhere")
    (root / "images").mkdir()
    (root / "elsewhere").rename(root / "images/val2017")
    samples = found(data.load(f"coco_voc:{root}", split="val"))
    assert list(samples) == ["000000000005", "000000000006"]
    box = np.zeros((12, 17), bool)
    box[1:6, 13:16] = True
    np.testing.assert_array_equal(samples["000000000005"][1], np.where(drawn(FILLED_STAR) | box, 17, 0))
    assert not samples["000000000006"][1].any()
    assert len(data.load(f"coco_voc:{root}", split="all").check()) == 256


def test_each_id_is_the_class_of_its_label():
    from keras_deeplab.data.coco_voc import _IDS

    assert tuple(IDS) == class_names.VOC.names[1:]
    assert tuple(IDS.values()) == _IDS


def change(root, split, edit):
    file = root / f"annotations/instances_{split}2017.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def test_what_is_missing_or_not_cocos_is_named(coco):
    root, _ = coco
    (root / "val2017/000000000006.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 photographs are missing:\n.*000000000006\.jpg"):
        data.load(f"coco_voc:{root}", split="val")
    change(root, "train", lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3, 4]]))
    with pytest.raises(ValueError, match=r"000000000001\.jpg has an annotation .*a polygon of 4 numbers"):
        data.load(f"coco_voc:{root}").check()
    change(root, "train", lambda content: content["images"][0].update(height=13))
    with pytest.raises(ValueError, match=r"000000000001\.jpg is 17x12 pixels, but its annotation 17x13"):
        data.load(f"coco_voc:{root}").check()
    change(root, "train", lambda content: content["categories"][1].update(name="bike"))
    with pytest.raises(ValueError, match=r"instances_train2017\.json .*categories are not COCO's: 2 is 'bike'"):
        data.load(f"coco_voc:{root}")
    (root / "annotations/instances_train2017.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"download annotations_trainval2017\.zip from"):
        data.load(f"coco_voc:{root}")


def test_the_folder_alone_does_not_say_whose_classes(coco):
    assert data.kind_of(coco[0]) == "coco"
    assert data.splits_of(f"coco_voc:{coco[0]}") == ("train", "val")


def test_outlines_are_filled_as_pycocotools_fills_them():
    np.testing.assert_array_equal(fill(np.array(STAR), 12, 17), drawn(FILLED_STAR))
    assert not fill(np.array([3.1, 3.1, 3.2, 3.1, 3.2, 3.2]), 12, 17).any()
    assert not fill(np.array([-9.0, -9, -5, -9, -5, -5]), 12, 17).any()
    mask = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    for round_to in [0, 2, 12] * 100:
        height, width = (int(size) for size in generator.integers(1, 60, 2))
        polygon = generator.uniform(-5, 70, 2 * generator.integers(3, 12)).round(round_to)
        theirs = mask.decode(mask.frPyObjects([polygon.tolist()], height, width))[..., 0]
        np.testing.assert_array_equal(fill(polygon, height, width), theirs, err_msg=str(polygon.tolist()))
