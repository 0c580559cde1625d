"""What annotation tools write, as data sets: one scene in every format, and what each format has of its own."""

import base64
import json
import re
import shutil

import annotation_exports as exports
import numpy as np
import pytest
from annotation_exports import EXPORTS, HEIGHT, LABELS, NAMES, RAGGED, WIDTH, corners, expected
from PIL import Image

from keras_deeplab import data


def samples(source):
    return {item["name"].decode(): (item["image"], item["label"]) for item in source.dataset().as_numpy_iterator()}


def change(path, edit):
    """Edits a JSON file."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", EXPORTS)
def test_every_format_gives_the_same_images_and_labels(kind, tmp_path):
    EXPORTS[kind](tmp_path / "export")
    assert data.kind_of(tmp_path / "export") == kind
    source = data.load(tmp_path / "export", split="all")
    assert source.classes == ["background", *LABELS]
    if kind in ("cvat", "supervisely"):
        assert source.classes_spec.colors == ((0, 0, 0), (32, 192, 16), (128, 64, 0))
    found = samples(source)
    assert [name[-1] for name in found] == list(NAMES)
    for name, (image, label) in found.items():
        np.testing.assert_array_equal(image, exports.image(name[-1]))
        np.testing.assert_array_equal(label, expected(name[-1]))
    assert source.check()[:3].sum() == 3 * HEIGHT * WIDTH
    assert [file.name for _, file, _ in source.files] == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("kind", EXPORTS)
def test_the_background_has_a_name_or_is_ignored(kind, tmp_path):
    EXPORTS[kind](tmp_path)
    if kind != "roboflow":
        source = data.load(tmp_path, split="all", background="soil")
        assert source.classes == ["soil", "leaf", "stem"]
        source = data.load(tmp_path, split="all", background="")
        assert source.classes == ["leaf", "stem"]
        label = next(iter(samples(source).values()))[1]
        np.testing.assert_array_equal(label, np.array([255, 0, 1], np.uint8)[expected("a")])
    source = data.load(tmp_path, split="all", background="Leaf")
    assert source.classes[0] == "leaf"
    label = next(iter(samples(source).values()))[1]
    painted = [0, 0, source.classes.index("stem")]
    if kind == "roboflow":  # names what no shape covers itself
        assert source.classes == ["leaf", "background", "stem"]
        painted = [1, 0, 2]
    np.testing.assert_array_equal(label, np.array(painted, np.uint8)[expected("a")])


@pytest.mark.parametrize("kind", EXPORTS)
def test_an_image_that_is_missing_is_named(kind, tmp_path):
    EXPORTS[kind](tmp_path)
    next(tmp_path.rglob("b.png")).unlink()
    with pytest.raises(FileNotFoundError, match=r"\bb(\.png|_mask)"):
        data.load(tmp_path, split="all")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("coco", r"instances_default\.json: a: annotation 1 \(stem\) reaches from"),
        ("labelme", r"a\.json: a: shape 1 \(leaf\) reaches from"),
        ("cvat", r"annotations\.xml: a: polygon 2 \(leaf\) reaches from"),
        ("supervisely", r"a\.png\.json: a: object 1 \(leaf\) is a mask of 14x10 pixels at column 402"),
        ("label_studio", r"project-1\.json: a: region r1 \(leaf\) reaches from"),
    ],
)
def test_a_shape_outside_its_image_is_named_as_it_is_read(kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "LEAF", (402, 3, 416, 13))
    monkeypatch.setattr(exports, "STEM", (402, 3, 416, 13))
    EXPORTS[kind](tmp_path)
    source = data.load(tmp_path, split="all")
    with pytest.raises(ValueError, match=message):
        source.check()


@pytest.mark.parametrize("kind", ["coco", "labelme", "cvat", "supervisely", "label_studio"])
def test_annotations_of_another_size_than_the_image_are_refused(kind, tmp_path):
    EXPORTS[kind](tmp_path)
    Image.fromarray(exports.image("a")[:, :-2]).save(next(tmp_path.rglob("a.png")))
    with pytest.raises(ValueError, match=r"annotations of a are made for 30x20 pixels, but .*a\.png is 28x20"):
        data.load(tmp_path, split="all").check()


@pytest.mark.parametrize("kind", ["coco", "labelme", "cvat", "supervisely", "label_studio"])
def test_photographs_are_upright_as_tools_show_them(kind, tmp_path):
    EXPORTS[kind](tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    stored = np.rot90(exports.image("a"))
    Image.fromarray(stored).save(next(tmp_path.rglob("a.png")), exif=exif)
    image, label = samples(data.load(tmp_path, split="all"))["a"]
    np.testing.assert_array_equal(image, exports.image("a"))
    np.testing.assert_array_equal(label, expected("a"))
    with pytest.raises(ValueError, match=r"20x30 as stored; orientation='upright' takes it the other way"):
        data.load(tmp_path, split="all", orientation="stored").check()
    with pytest.raises(ValueError, match=r"orientation must be one of upright, stored"):
        data.load(tmp_path, split="all", orientation="flat")


@pytest.mark.parametrize("kind", ["labelme", "roboflow", "supervisely", "label_studio"])
def test_images_nobody_looked_at_are_background_only_where_that_is_said(kind, tmp_path):
    EXPORTS[kind](tmp_path)
    if kind == "label_studio":
        change(tmp_path / "project-1.json", lambda tasks: tasks[2].update(annotations=[]))
    else:
        next(path for path in tmp_path.rglob("c*") if path.name in ("c.json", "c_mask.png", "c.png.json")).unlink()
        if kind == "roboflow":  # its folder has nothing else
            shutil.move(tmp_path / "valid" / "c.png", tmp_path / "train" / "c.png")
            shutil.rmtree(tmp_path / "valid")
    with pytest.raises(ValueError, match=r"1 images in .* no annotations.*missing_masks='background'.*\n.*c\.png"):
        data.load(tmp_path, split="all")
    if kind == "labelme":  # pictures of the annotations in another folder are none
        exports.write_image(tmp_path / "seen" / "a.jpg", "a")
    found = samples(data.load(tmp_path, split="all", missing_masks="background"))
    assert len(found) == 3
    np.testing.assert_array_equal(found["c"][1], expected("c"))
    np.testing.assert_array_equal(found["a"][1], expected("a"))


def test_labels_are_numbered_by_an_option_or_by_a_list_beside_the_annotations(tmp_path):
    exports.labelme(tmp_path)
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nstem\nleaf\n")
    source = data.load(tmp_path, split="all")
    assert source.classes == ["_background_", "stem", "leaf"]
    np.testing.assert_array_equal(samples(source)["a"][1], np.array([0, 2, 1], np.uint8)[expected("a")])
    assert data.load(tmp_path, split="all", classes=["stem", "leaf"]).classes == ["background", "stem", "leaf"]
    source = data.load(tmp_path, split="all", classes=["leaf", "stem", "flower", "Background"])
    assert source.classes == ["leaf", "stem", "flower", "Background"]
    np.testing.assert_array_equal(samples(source)["a"][1], np.array([3, 0, 1], np.uint8)[expected("a")])
    with pytest.raises(ValueError, match=r"classes= has 'leaf', and the annotations of .* have 'stem' too"):
        data.load(tmp_path, split="all", classes=["leaf"])
    change(tmp_path / "a.json", lambda content: content["shapes"][1].update(label="__ignore__"))
    np.testing.assert_array_equal(
        samples(data.load(tmp_path, split="all"))["a"][1], np.array([0, 2, 255], np.uint8)[expected("a")]
    )


# Splits -----------------------------------------------------------------------------------------------------------


def test_an_export_without_parts_is_split_by_itself(tmp_path):
    exports.cvat(tmp_path)
    train, val = data.load(tmp_path), data.load(tmp_path, split="val")
    assert (len(train), len(val)) == (2, 1)
    assert val.notes[0].endswith("'val' are 1 images, chosen from 3 by val_share=0.2 and split_seed=0")
    assert sorted(samples(train) | samples(val)) == list(NAMES)
    others = {tuple(samples(data.load(tmp_path, split="val", split_seed=seed))) for seed in range(9)}
    assert len(others) == 3
    assert len(data.load(tmp_path, val_share=0.6)) == 1
    with pytest.raises(ValueError, match=r"has no split 'test'; it has none, and 'all' for every image"):
        data.load(tmp_path, split="test")


def test_parts_are_told_by_folders_files_subsets_and_tags(tmp_path):
    def parts(path):
        return {split: [name[-1] for name in samples(data.load(path, split=split))] for split in ("train", "val")}

    exports.roboflow(tmp_path / "roboflow")
    assert parts(tmp_path / "roboflow") == {"train": ["a", "b"], "val": ["c"]}

    # Roboflow's COCO, whose first category stands for all others, and two files of one name in two folders.
    root = tmp_path / "coco"
    content = exports.coco_content(exports.coco_entries())
    content["categories"] = [
        {"id": 0, "name": "plants", "supercategory": "none"},
        *({**category, "supercategory": "plants"} for category in content["categories"]),
    ]
    for part, images in (("train", content["images"][:2]), ("valid", content["images"][2:])):
        known = {image["id"] for image in images}
        entries = [entry for entry in content["annotations"] if entry["image_id"] in known]
        exports.write_json(root / part / "_annotations.coco.json", content | {"images": images, "annotations": entries})
        for image in images:
            exports.write_image(root / part / image["file_name"], image["file_name"][0])
    assert parts(root) == {"train": ["a", "b"], "val": ["c"]}
    assert data.load(root).classes == ["background", *LABELS]
    shutil.copy(root / "train" / "a.png", root / "valid" / "a.png")
    change(
        root / "valid" / "_annotations.coco.json", lambda coco: coco["images"].append({"id": 1, "file_name": "a.png"})
    )
    assert list(samples(data.load(root, split="val"))) == ["valid/c", "valid/a"]

    root = tmp_path / "cvat"
    exports.cvat(root)
    (root / "annotations.xml").write_text(exports.cvat_xml(exports.cvat_shapes(), ("Train", "Validation", "Train")))
    assert parts(root) == {"train": ["a", "c"], "val": ["b"]}
    # Several tasks, each in a folder of its own.
    shutil.move(root, tmp_path / "tasks" / "train")
    shutil.copytree(tmp_path / "tasks" / "train", tmp_path / "tasks" / "val")
    for part, kept in (("train", "ab"), ("val", "c")):
        file = tmp_path / "tasks" / part / "annotations.xml"
        file.write_text(
            re.sub(rf'<image id="." name="[^{kept}]\.png".*?</image>| subset=\'\w*\'', "", file.read_text())
        )
    assert parts(tmp_path / "tasks") == {"train": ["a", "b"], "val": ["c"]}

    root = tmp_path / "supervisely"
    exports.supervisely(root)
    for name, tag in zip(NAMES, ("val", "train", "train"), strict=True):
        change(root / "ds0" / "ann" / f"{name}.png.json", lambda content, tag=tag: content.update(tags=[{"name": tag}]))
    assert parts(root) == {"train": ["b", "c"], "val": ["a"]}

    root = tmp_path / "labelme"
    exports.labelme(root / "train")
    (root / "val").mkdir()
    for file in (root / "train").glob("c.*"):
        file.rename(root / "val" / file.name)
    assert parts(root) == {"train": ["a", "b"], "val": ["c"]}
    assert list(samples(data.load(root, split="all"))) == ["train/a", "train/b", "val/c"]


# Of each format ---------------------------------------------------------------------------------------------------


def test_coco_has_crowds_compressed_runs_and_parts_of_one_object(tmp_path):
    exports.coco(tmp_path)
    file = tmp_path / "annotations" / "instances_default.json"
    compressed = {"counts": "Z2f0000P1", "size": [HEIGHT, WIDTH]}

    def edit(content):
        content["annotations"][0] |= {"iscrowd": 1}
        content["annotations"].append(
            {
                "id": 4,
                "image_id": 12,
                "category_id": 3,
                "segmentation": [[1, 1, 5, 1, 5, 3, 1, 3], [9, 9, 9, 12, 11, 9]],
            }
        )

    change(file, edit)
    found = samples(data.load(file, split="all"))
    label = np.where(expected("a") == 2, 255, 0).astype(np.uint8)
    label[3:13, 2:16] = 1  # an object lies over a crowd
    np.testing.assert_array_equal(found["a"][1], label)
    note = data.load(file, split="all").notes[0]
    assert note.startswith(f"1 of 4 annotations in {file} are crowds (iscrowd) and ignored; crowds='object' takes")
    objects = data.load(file, split="all", crowds="object")
    assert objects.notes == []
    np.testing.assert_array_equal(samples(objects)["a"][1], expected("a"))
    with pytest.raises(ValueError, match=r"crowds='all'; it is one of 'ignore', 'object'"):
        data.load(file, split="all", crowds="all")
    with pytest.raises(ValueError, match=r"doesn't take crowds"):
        data.load("synthetic", crowds="object")
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[1:3, 1:5] = 1
    label[9, 9:11] = label[10, 9] = 1
    np.testing.assert_array_equal(found["c"][1], label)

    mask = pytest.importorskip("pycocotools.mask")
    runs = mask.encode(np.asfortranarray(expected("b")))
    change(file, lambda content: content["annotations"][2]["segmentation"].update(counts=runs["counts"].decode()))
    np.testing.assert_array_equal(samples(data.load(file, split="all"))["b"][1], expected("b"))
    change(file, lambda content: content["annotations"][2].update(segmentation=compressed))
    with pytest.raises(ValueError, match=r"b: annotation 3 \(leaf\) has runs of \d+ pixels together, but 30x20 is 600"):
        data.load(file, split="all").check()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda content: content["annotations"][0].update(category_id=4),
            r"annotation 1 has category_id 4",
        ),
        (lambda content: content["annotations"][0].update(image_id=44), r"annotation 1 is of image 44, which isn't"),
        (lambda content: content["annotations"][0].update(segmentation=[]), r"annotation 1 \(stem\) has a box and no"),
        (lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3]]), r"no list of x, y, x, y"),
        (lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), r"2 points, and it takes 3"),
        (lambda content: content["annotations"][0].update(segmentation=[[1, 1, 2, 2, 3, 3]]), r"encloses no area"),
        (lambda content: content["annotations"][0].update(segmentation=[[1, 1, 2, None, 3, 3]]), r"two finite numbers"),
        (
            lambda content: content["annotations"][2]["segmentation"].update(size=[30, 20]),
            r"mask of 20x30 pixels",
        ),
        (lambda content: content["categories"][0].update(id=3), r"several categories of one name or id"),
        (lambda content: content["images"].append(content["images"][0]), r"an image without an id of its own"),
        (lambda content: content["images"].append({"id": 1, "file_name": "a.png"}), r"has the image .*a\.png twice"),
        (lambda content: content.pop("categories"), r"lists of images, annotations and categories"),
        (lambda content: content["annotations"][0].pop("category_id"), r"an annotation without one: 'category_id'"),
    ],
)
def test_damaged_coco_is_refused_by_file_and_id(edit, message, tmp_path):
    exports.coco(tmp_path)
    change(tmp_path / "annotations" / "instances_default.json", edit)
    with pytest.raises(ValueError, match=rf"instances_default\.json.*{message}"):
        data.load(tmp_path, split="all").check()


def test_labelme_has_circles_lines_and_images_inside(tmp_path):
    exports.labelme(tmp_path)

    def edit(content):
        content["imageData"] = base64.b64encode((tmp_path / "c.png").read_bytes()).decode()
        content["shapes"] = [
            {"label": "leaf", "points": [[10, 10], [14, 10]], "shape_type": "circle"},
            {"label": "stem", "points": [[20, 2], [20, 18]], "shape_type": "linestrip"},
        ]

    change(tmp_path / "c.json", edit)
    (tmp_path / "c.png").unlink()
    image, label = samples(data.load(tmp_path, split="all", line_width=4))["c"]
    np.testing.assert_array_equal(image, exports.image("c"))
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    circle = (row - 10) ** 2 + (column - 10) ** 2 <= 16
    np.testing.assert_array_equal(label == 1, circle)
    np.testing.assert_array_equal(label[2:18] == 2, (abs(column - 20) <= 2)[2:18])
    with pytest.raises(ValueError, match=r"c\.json: c: shape 2 \(stem\) is a line.*line_width="):
        data.load(tmp_path, split="all").check()
    change(tmp_path / "a.json", lambda content: content["shapes"][0].update(shape_type="point"))
    with pytest.raises(ValueError, match=r"a\.json: a: shape 1 \(leaf\) is a point, which covers no area"):
        data.load(tmp_path, split="all", line_width=4).check()
    change(tmp_path / "b.json", lambda content: content["shapes"][0].update(mask="AAAA"))
    with pytest.raises(ValueError, match=r"b: shape 1 \(leaf\) has a mask that is no PNG file"):
        data.load(tmp_path, split="all", line_width=4).check()
    (tmp_path / "b.json").write_text('{"shapes": [')
    with pytest.raises(ValueError, match=r"b\.json is no JSON, or a damaged one"):
        data.load(tmp_path, split="all")


def test_cvat_has_rotated_boxes_ellipses_and_an_order(tmp_path):
    exports.cvat(tmp_path)
    shapes = exports.cvat_shapes()
    shapes["c"] = (
        '<ellipse label="leaf" cx="8" cy="10" rx="6" ry="3" rotation="90" z_order="1"/>'
        '<box label="stem" xtl="15" ytl="8" xbr="25" ybr="12" rotation="90" z_order="1"/>'
        '<polygon label="stem" points="5,9;11,9;11,11;5,11" z_order="0"/>'
    )
    (tmp_path / "annotations.xml").write_text(exports.cvat_xml(shapes))
    label = samples(data.load(tmp_path / "annotations.xml", split="all"))["c"][1]
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    wanted[9:11, 5:11] = 2
    wanted[((column - 8) / 3) ** 2 + ((row - 10) / 6) ** 2 <= 1] = 1
    wanted[5:15, 18:22] = 2
    np.testing.assert_array_equal(label, wanted)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            '<polygon label="flower" points="1,1;2,2;3,1"/>',
            r"a polygon with the label 'flower', .* none of 'leaf', 'stem'",
        ),
        (
            '<mask label="leaf" rle="3, 4" left="0" top="0" width="4" height="2"/>',
            r"mask 1 \(leaf\) has runs of 7",
        ),
        ('<mask label="leaf" rle="3, x" left="0" top="0" width="4" height="2"/>', r"mask 1 \(leaf\) has an rle"),
        ('<box label="leaf" xtl="1" ytl="1" xbr="4"/>', r"box 1 \(leaf\) is damaged \(KeyError: 'ybr'\)"),
        ('<points label="leaf" points="1,1"/>', r"points 1 \(leaf\) is a points, which covers no area"),
        ('<polyline label="leaf" points="1,1;5,5"/>', r"polyline 1 \(leaf\) is a line.*line_width="),
        ("<polygon", r"annotations\.xml is no XML"),
    ],
)
def test_damaged_cvat_is_refused_by_file_and_image(shape, message, tmp_path):
    exports.cvat(tmp_path)
    (tmp_path / "annotations.xml").write_text(exports.cvat_xml(exports.cvat_shapes() | {"c": shape}))
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path, split="all").check()


def test_a_video_of_cvat_is_refused_with_the_way_out(tmp_path):
    exports.cvat(tmp_path)
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text().replace("<image ", '<track id="0"/><image ', 1))
    with pytest.raises(ValueError, match=r"export of a video.*'CVAT for images 1\.1'"):
        data.load(tmp_path, split="all")


def test_roboflows_numbers_are_those_of_its_list(tmp_path):
    exports.roboflow(tmp_path)
    mask = np.array([0, 4, 7], np.uint8)[expected("a")]
    mask[0, 0] = 255
    (tmp_path / "train" / "a_mask.png").write_bytes(exports.png(np.repeat(mask[..., None], 3, axis=2)))
    label = samples(data.load(tmp_path))["train/a"][1]
    assert label[0, 0] == 255
    np.testing.assert_array_equal(label[1:], expected("a")[1:])
    mask[2, 1] = 5
    (tmp_path / "train" / "a_mask.png").write_bytes(exports.png(mask))
    with pytest.raises(ValueError, match=r"a_mask\.png: train/a: the mask holds 5, first at row 2, column 1"):
        data.load(tmp_path).check()
    (tmp_path / "train" / "a_mask.png").write_bytes(exports.png(mask[:, 1:]))
    with pytest.raises(ValueError, match=r"the mask is 29x20 pixels, but its image is 30x20"):
        data.load(tmp_path).check()
    (tmp_path / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n4, leaf\n")
    with pytest.raises(ValueError, match=r"train/_classes\.csv has .*'stem', and .*valid/_classes\.csv has"):
        data.load(tmp_path)
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n0, leaf\n")
    with pytest.raises(ValueError, match=r"_classes\.csv, line 3: '0, leaf' is no new PIXEL VALUE, CLASS"):
        data.load(tmp_path)


def test_supervisely_has_holes_and_bitmaps_over_the_border(tmp_path):
    exports.supervisely(tmp_path)
    file = tmp_path / "ds0" / "ann" / "c.png.json"
    hole = corners((4, 5, 9, 8))
    points = {"exterior": corners((2, 3, 15, 12)), "interior": [hole]}
    rgba = np.zeros((*RAGGED.shape, 4), np.uint8)
    rgba[RAGGED] = 255
    bitmap = {"origin": [24, -2], "data": base64.b64encode(exports.png(rgba)).decode()}
    objects = [
        {"classTitle": "leaf", "geometryType": "polygon", "points": points},
        {"classTitle": "stem", "geometryType": "bitmap", "bitmap": bitmap},
    ]
    change(file, lambda content: content.update(objects=objects))
    label = samples(data.load(tmp_path, split="all"))["c"][1]
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    wanted[3:13, 2:16] = 1
    wanted[5:9, 4:10] = 0
    wanted[:4, 24:][RAGGED[2:, :6]] = 2
    np.testing.assert_array_equal(label, wanted)
    change(file, lambda content: content["objects"][0].update(classTitle="flower"))
    with pytest.raises(ValueError, match=r"c\.png\.json: object 1 has the class 'flower', .* none of 'leaf', 'stem'"):
        data.load(tmp_path, split="all")
    change(file, lambda content: content["objects"][0].update(classTitle="leaf", geometryType="graph"))
    with pytest.raises(ValueError, match=r"c\.png\.json: c: object 1 \(leaf\) is a graph, which is not read"):
        data.load(tmp_path, split="all").check()
    file.rename(file.with_name("d.png.json"))
    with pytest.raises(FileNotFoundError, match=r"img lacks the images of 1 files .* d\.png\.json"):
        data.load(tmp_path, split="all")


def test_label_studio_has_ellipses_turned_boxes_and_one_annotation_that_counts(tmp_path):
    exports.label_studio(tmp_path)
    file = tmp_path / "project-1.json"
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    ellipse = {"x": 40, "y": 50, "radiusX": 20, "radiusY": 20, "rotation": 0, "ellipselabels": ["leaf"]}
    box = {"x": 100 * 22 / 30, "y": 10, "width": 20, "height": 10, "rotation": 90, "rectanglelabels": ["stem"]}
    results = [
        size | {"id": "e", "type": "ellipselabels", "value": ellipse},
        size | {"id": "b", "type": "rectanglelabels", "value": box},
    ]
    truth = {"id": 7, "ground_truth": True, "result": results}

    def edit(tasks):
        tasks[2]["annotations"] += [truth, {"id": 8, "was_cancelled": True, "result": []}]

    change(file, edit)
    label = samples(data.load(tmp_path, split="all"))["c"][1]
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    wanted[((column - 12) / 6) ** 2 + ((row - 10) / 4) ** 2 <= 1] = 1
    wanted[2:8, 20:22] = 2  # turned around its upper left corner
    np.testing.assert_array_equal(label, wanted)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tasks: tasks[0]["annotations"].append({"result": []}), r"task 1 has 2 annotations, and one counts"),
        (
            lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"].update(polygonlabels=["leaf", "stem"]),
            r"task 1, region r1 must have one label; it has 'leaf', 'stem'",
        ),
        (lambda tasks: tasks[0]["annotations"][0]["result"][0].update(image_rotation=90), r"region r1 .* turned by 90"),
        (
            lambda tasks: tasks[1]["annotations"][0]["result"][0]["value"].update(rle=[0, 0, 1]),
            r"b: region r4 \(leaf\) is cut short: its rle ends after 3 bytes",
        ),
        (
            lambda tasks: tasks[0]["annotations"][0]["result"][0].update(type="keypointlabels"),
            r"region r1 \(leaf\) is a keypoint, which covers no area",
        ),
        (lambda tasks: tasks[0].update(data={"text": "a", "more": "b"}), r"task 1 has no image in its data"),
    ],
)
def test_what_label_studio_leaves_open_is_refused_by_task_and_region(edit, message, tmp_path):
    exports.label_studio(tmp_path)
    change(tmp_path / "project-1.json", edit)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path, split="all").check()
