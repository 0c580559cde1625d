"""One small scene as every annotation tool writes it: three images, of 30x20 pixels (width x height).

"a" has a leaf with a smaller stem over it, "b" a leaf with ragged edges, "c" nothing.
"""

import base64
import io
import json
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 20, 30
NAMES = ("a", "b", "c")
LABELS = ("leaf", "stem")
LEAF, STEM = (2, 3, 16, 13), (8, 5, 20, 12)  # left, top, right, bottom; the latter two excluded
RAGGED = np.random.default_rng(7).random((6, 9)) < 0.6
RAGGED_AT = (4, 5)  # row, column


def expected(name):
    """Labels by hand: 0 background, 1 leaf, 2 stem."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    if name == "a":
        label[3:13, 2:16] = 1
        label[5:12, 8:20] = 2
    if name == "b":
        label[4:10, 5:14][RAGGED] = 1
    return label


def corners(box):
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def image(name):
    return np.random.default_rng(NAMES.index(name)).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def write_image(path, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image(name)).save(path)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def png(mask, **options):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", **options)
    return file.getvalue()


def column_runs(mask):
    """Lengths of runs down the columns, outside first."""
    flat = mask.T.ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return np.diff([0, *edges, flat.size]).tolist()


def coco_entries():
    ragged = expected("b") == 1
    flat = [[float(number) for point in corners(box) for number in point] for box in (LEAF, STEM)]
    return [  # the stem first: what is smaller goes over it nevertheless
        {"id": 1, "image_id": 10, "category_id": 9, "segmentation": [flat[1]], "iscrowd": 0},
        {"id": 2, "image_id": 10, "category_id": 3, "segmentation": [flat[0]], "iscrowd": 0},
        {
            "id": 3,
            "image_id": 11,
            "category_id": 3,
            "segmentation": {"counts": column_runs(ragged), "size": [HEIGHT, WIDTH]},
            "iscrowd": 0,
        },
    ]


def coco_content(entries, suffix=".png"):
    images = [
        {"id": 10 + number, "file_name": f"{name}{suffix}", "height": HEIGHT, "width": WIDTH}
        for number, name in enumerate(NAMES)
    ]
    categories = [{"id": 9, "name": "stem"}, {"id": 3, "name": "leaf"}]
    return {"images": images, "annotations": entries, "categories": categories}


def coco(root):
    for name in NAMES:
        write_image(root / "images" / f"{name}.png", name)
    write_json(root / "annotations" / "instances_default.json", coco_content(coco_entries()))


def labelme_shapes(name):
    if name == "a":
        return [
            {"label": "leaf", "points": corners(LEAF), "shape_type": "polygon"},
            {"label": "stem", "points": [[20, 12], [8, 5]], "shape_type": "rectangle"},
        ]
    mask = base64.b64encode(png(RAGGED)).decode()
    return [{"label": "leaf", "points": [[5, 4], [13, 9]], "shape_type": "mask", "mask": mask}] if name == "b" else []


def labelme(root):
    for name in NAMES:
        write_image(root / f"{name}.png", name)
        content = {"shapes": labelme_shapes(name), "imagePath": f"{name}.png", "imageData": None}
        write_json(root / f"{name}.json", content | {"imageHeight": HEIGHT, "imageWidth": WIDTH})


def cvat_shapes():
    runs = ", ".join(map(str, column_runs(RAGGED.T)))
    points = ["; ".join(f"{x:.2f},{y:.2f}" for x, y in corners(box)).replace(" ", "") for box in (LEAF,)]
    left, top, right, bottom = STEM
    return {
        "a": f'<box label="stem" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" z_order="2"/>'
        f'<polygon label="leaf" points="{points[0]}" z_order="-1"/><tag label="leaf"/>',
        "b": f'<mask label="leaf" rle="{runs}" left="5" top="4" width="9" height="6" z_order="0"/>',
        "c": "",
    }


def cvat_xml(shapes, subsets=("", "", "")):
    labels = "".join(
        f"<label><name>{name}</name><color>{color}</color></label>"
        for name, color in zip(LABELS, ("#20c010", "#804000"), strict=True)
    )
    images = "".join(
        f'<image id="{number}" name="{name}.png"{f" subset={subset!r}" * bool(subset)} width="{WIDTH}" '
        f'height="{HEIGHT}">{shapes[name]}</image>'
        for number, (name, subset) in enumerate(zip(NAMES, subsets, strict=True))
    )
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}{images}</annotations>'


def cvat(root):
    for name in NAMES:
        write_image(root / "images" / f"{name}.png", name)
    (root / "annotations.xml").write_text(cvat_xml(cvat_shapes()))


def roboflow(root):
    for name, part in zip(NAMES, ("train", "train", "valid"), strict=True):
        write_image(root / part / f"{name}.png", name)
        (root / part / f"{name}_mask.png").write_bytes(png(np.array([0, 4, 7], np.uint8)[expected(name)]))
        (root / part / "_classes.csv").write_text("Pixel Value, Class\n0, background\n4, leaf\n7, stem\n")


def supervisely_objects(name):
    if name == "a":  # whole coordinates of pixels, the last included
        left, top, right, bottom = LEAF
        exterior = corners((left, top, right - 1, bottom - 1))
        left, top, right, bottom = STEM
        box = [[left, top], [right - 1, bottom - 1]]
        return [
            {"classTitle": "leaf", "geometryType": "polygon", "points": {"exterior": exterior, "interior": []}},
            {"classTitle": "stem", "geometryType": "rectangle", "points": {"exterior": box, "interior": []}},
        ]
    if name == "c":
        return []
    paletted = Image.fromarray(RAGGED.astype(np.uint8))
    paletted.putpalette([0, 0, 0, 255, 255, 255])
    file = io.BytesIO()
    paletted.save(file, "PNG", transparency=0)
    data = base64.b64encode(zlib.compress(file.getvalue())).decode()
    return [{"id": 5, "classTitle": "leaf", "geometryType": "bitmap", "bitmap": {"origin": [5, 4], "data": data}}]


def supervisely(root):
    classes = [{"title": "leaf", "color": "#20C010"}, {"title": "stem", "color": "#804000"}]
    write_json(root / "meta.json", {"classes": classes, "tags": []})
    for name in NAMES:
        write_image(root / "ds0" / "img" / f"{name}.png", name)
        content = {"size": {"height": HEIGHT, "width": WIDTH}, "objects": supervisely_objects(name), "tags": []}
        write_json(root / "ds0" / "ann" / f"{name}.png.json", content)


def rle_pack(values):
    """Bytes of thi.ng's rle-pack: bits in text, runs of equal values by their length, every other value alone."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    place = 0
    while place < len(values):
        end = place + 1
        while end < len(values) and values[end] == values[place]:
            end += 1
        length = end - place
        if length == 1:
            bits += f"0{0:02b}{0:03b}{values[place]:08b}"
        else:
            size = next(index for index, size in enumerate((3, 4, 8, 16)) if length <= 2**size)
            bits += f"1{size:02b}{length - 1:0{(3, 4, 8, 16)[size]}b}{values[place]:08b}"
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def label_studio_results(name):
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    if name == "a":
        percent = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(LEAF)]
        left, top, right, bottom = STEM
        box = {"x": 100 * left / WIDTH, "y": 100 * top / HEIGHT, "rotation": 0}
        box |= {"width": 100 * (right - left) / WIDTH, "height": 100 * (bottom - top) / HEIGHT}
        return [
            size | {"id": "r1", "type": "polygonlabels", "value": {"points": percent, "polygonlabels": ["leaf"]}},
            size | {"id": "r2", "type": "rectanglelabels", "value": box | {"rectanglelabels": ["stem"]}},
            {"id": "r3", "type": "choices", "value": {"choices": ["sharp"]}},
        ]
    if name == "c":
        return []
    rle = rle_pack(np.repeat((expected("b") == 1).ravel() * 255, 4).tolist())
    value = {"format": "rle", "rle": rle}
    return [  # a brush whose label stands in a result of its own
        size | {"id": "r4", "type": "brush", "value": value},
        size | {"id": "r4", "type": "labels", "value": value | {"labels": ["leaf"]}},
    ]


def label_studio_tasks():
    return [
        {
            "id": number,
            "data": {"image": f"/data/upload/3/0123abcd-{name}.png"},
            "annotations": [{"id": 100 + number, "was_cancelled": False, "result": label_studio_results(name)}],
        }
        for number, name in enumerate(NAMES, 1)
    ]


def label_studio(root):
    for name in NAMES:
        write_image(root / "images" / f"{name}.png", name)
    write_json(root / "project-1.json", label_studio_tasks())


EXPORTS = {
    "coco": coco,
    "labelme": labelme,
    "cvat": cvat,
    "roboflow": roboflow,
    "supervisely": supervisely,
    "label_studio": label_studio,
}
