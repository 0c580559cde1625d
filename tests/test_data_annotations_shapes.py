"""Shapes and encoded masks to pixels, against pycocotools, arithmetic in float64 and vectors of other packers."""

import base64

import numpy as np
import pytest
from annotation_exports import column_runs, png, rle_pack

from keras_deeplab.data.annotations import regions
from keras_deeplab.data.annotations.encoded import coco_counts, from_counts, label_studio_alpha, png_mask
from keras_deeplab.data.annotations.layout import Images, part_named
from keras_deeplab.data.annotations.regions import Canvas

CANVAS = Canvas(60, 80)


def whole(region, canvas=CANVAS):
    mask = np.zeros((canvas.height, canvas.width), bool)
    top, left, part = region
    assert top >= 0
    assert left >= 0
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def inside(rings, canvas=CANVAS):
    """Whether a ray from each pixel's centre to the right crosses the outlines an odd number of times."""
    row, column = np.mgrid[: canvas.height, : canvas.width] + 0.5
    odd = np.zeros(row.shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                odd ^= ((y0 > row) != (y1 > row)) & (column < (x1 - x0) * (row - y0) / (y1 - y0) + x0)
    return odd


@pytest.mark.parametrize("seed", range(40))
def test_a_polygon_covers_the_pixels_whose_centres_lie_in_it(seed):
    random = np.random.default_rng(seed)
    rings = [random.uniform(-10, (90, 70), (random.integers(3, 12), 2)) for _ in range(random.integers(1, 3))]
    found = whole(regions.polygon(CANVAS, rings))
    np.testing.assert_array_equal(found, inside(rings))


def test_polygons_agree_with_pycocotools_but_for_pixels_on_their_outline():
    mask = pytest.importorskip("pycocotools.mask")
    angles = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    for radius, x, y in ((25.3, 40.2, 30.1), (8.7, 20.4, 15.5), (3.2, 60, 40)):
        ring = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
        found = whole(regions.polygon(CANVAS, [ring]))
        theirs = mask.decode(mask.frPyObjects([ring.ravel().tolist()], 60, 80))[..., 0] > 0
        row, column = np.argwhere(found != theirs).T + 0.5
        assert (abs(np.hypot(column - x, row - y) - radius) < 0.75).all()  # theirs are on a grid of fifths
        assert abs(found.sum() / (np.pi * radius**2) - 1) < 0.05


def test_polygons_that_share_an_edge_neither_overlap_nor_leave_a_gap():
    random = np.random.default_rng(3)
    for _ in range(20):
        center = random.uniform(20, (60, 40))
        angles = np.sort(random.uniform(0, 2 * np.pi, 9))
        rim = np.stack([center[0] + 90 * np.cos(angles), center[1] + 90 * np.sin(angles)], 1)
        if np.diff(angles, append=angles[0] + 2 * np.pi).max() > np.pi:
            continue
        wedges = [
            whole(regions.polygon(CANVAS, [np.array([a, center, b])]))
            for a, b in zip(rim, np.roll(rim, -1, axis=0), strict=True)
        ]
        np.testing.assert_array_equal(sum(wedge.astype(int) for wedge in wedges), inside([rim]))


def test_holes_boxes_ellipses_and_lines():
    outer, hole = np.array([(2, 3), (30, 3), (30, 40), (2, 40)]), np.array([(10, 10), (20, 10), (20, 20), (10, 20)])
    wanted = np.zeros((60, 80), bool)
    wanted[3:40, 2:30] = True
    wanted[10:20, 10:20] = False
    np.testing.assert_array_equal(whole(regions.polygon(CANVAS, [outer, hole])), wanted)
    np.testing.assert_array_equal(whole(regions.box(CANVAS, 30, 40, 2, 3)), inside([outer]))
    turned = regions.turned(outer.astype(float), (16, 21.5), 30)
    assert turned[0] == pytest.approx((16 - 14 * np.sqrt(0.75) + 18.5 / 2, 21.5 - 7 - 18.5 * np.sqrt(0.75)))
    np.testing.assert_array_equal(whole(regions.box(CANVAS, 2, 3, 30, 40, 30)), inside([turned]))

    angles = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    rim = np.stack([20 * np.cos(angles), 9 * np.sin(angles)], 1)
    rim = regions.turned(rim + (35.2, 28.9), (35.2, 28.9), 25)
    assert (whole(regions.ellipse(CANVAS, 35.2, 28.9, 20, 9, 25)) != inside([rim])).sum() <= 2

    drawn = whole(regions.line(CANVAS._replace(line_width=6), np.array([(10.0, 30.0), (50, 30), (50, 10)])))
    assert drawn[27:33, 10:50].all()
    assert drawn[10:30, 47:53].all()
    assert drawn.sum() == pytest.approx(60 * 6 + np.pi * 9, abs=12)
    dot = whole(regions.line(CANVAS._replace(line_width=2), np.array([(10.0, 30.0), (10, 30)])))
    assert sorted(map(tuple, np.argwhere(dot))) == [(29, 9), (29, 10), (30, 9), (30, 10)]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: regions.points([[1, 2], [3]]), "no list of two finite numbers"),
        (lambda: regions.points([[1, 2], [3, float("nan")], [1, 1]]), "no list of two finite numbers"),
        (lambda: regions.points("abc"), "no list of two finite numbers"),
        (lambda: regions.points(None), "no list of two finite numbers"),
        (lambda: regions.points([[1, 2], [3, 4]]), "has 2 points, and it takes 3 at least"),
        (lambda: regions.polygon(CANVAS, [regions.points([[1, 1], [2, 2], [3, 3]])]), "encloses no area"),
        (lambda: regions.polygon(CANVAS, [regions.points([[80, 1], [90, 2], [85, 30]])]), "outside its image of 80x60"),
        (lambda: regions.ellipse(CANVAS, 5, 5, 0, 4), "has radii 0 and 4, which must be greater than 0"),
        (lambda: regions.line(CANVAS, np.ones((2, 2))), "line_width= says how many pixels"),
        (lambda: regions.bitmap(CANVAS, 60, 0, np.ones((2, 2), bool)), "at column 0, row 60: outside its image"),
        (lambda: from_counts([3, 4], 2, 3, by_columns=True), "has runs of 7 pixels together, but 3x2 is 6"),
        (lambda: from_counts([7, -1], 2, 3, by_columns=True), "no list of numbers of pixels"),
        (lambda: from_counts([1.5, 4.5], 2, 3, by_columns=True), "no list of numbers of pixels"),
        (lambda: coco_counts("5 2"), "the character ' '"),
        (lambda: coco_counts("5P"), "end in the middle of a number"),
        (lambda: label_studio_alpha([0, 256], 2, 3), "no list of bytes"),
        (lambda: label_studio_alpha(rle_pack([255] * 24), 3, 3), "an rle of 24 values, but 3x3 pixels of RGBA are 36"),
        (lambda: label_studio_alpha(rle_pack([0, 9] * 12)[:-3], 2, 3), "is cut short: its rle ends after 46 bytes"),
        (lambda: png_mask("!"), "no PNG file in base64"),
        (lambda: png_mask(None), "no PNG file in base64"),
        (lambda: png_mask(base64.b64encode(b"x\x9c11").decode()), "no PNG file in base64"),
    ],
)
def test_damaged_geometry_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize("seed", range(20))
def test_runs_of_coco_agree_with_pycocotools(seed):
    masks = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 90, 2)) < random.random()
    counts = coco_counts(masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"])
    assert counts == column_runs(mask)
    np.testing.assert_array_equal(from_counts(counts, *mask.shape, by_columns=True), mask)
    rows = column_runs(mask.T)
    np.testing.assert_array_equal(from_counts(rows, *mask.shape, by_columns=False), mask)


def test_brushes_of_label_studio():
    # What label-studio-sdk 2.1.2 (`converter.brush.encode_rle`) makes of a rectangle in 5 rows of 7 pixels.
    packed = [0, 0, 0, 140, 57, 27, 254, 31, 0, 159, 255, 49, 128, 0]
    mask = np.zeros((5, 7), bool)
    mask[1, 1:3] = True
    np.testing.assert_array_equal(label_studio_alpha(packed, 5, 7), mask)
    random = np.random.default_rng(5)
    for share in (0.02, 0.5, 1):
        mask = random.random((31, 17)) < share
        values = random.integers(1, 200, (31, 17, 4)) * [1, 1, 1, 0]
        values[..., 3] = np.where(mask, random.integers(1, 256, mask.shape), 0)
        np.testing.assert_array_equal(label_studio_alpha(rle_pack(values.ravel().tolist()), 31, 17), mask)


def test_png_files_in_text():
    mask = np.random.default_rng(0).random((6, 9)) < 0.5
    grey, rgba = mask.astype(np.uint8) * 255, np.dstack([np.full(mask.shape, 255)] * 3 + [mask * 7]).astype(np.uint8)
    for data in (png(mask), png(grey), png(mask.astype(np.uint8)), png(rgba), png(np.dstack([grey] * 3))):
        np.testing.assert_array_equal(png_mask(base64.b64encode(data).decode()), mask)
        np.testing.assert_array_equal(png_mask("data:image/png;base64," + base64.b64encode(data).decode()), mask)


def test_images_are_found_by_the_names_that_tools_give_them(tmp_path):
    for path in ("images/train/a.jpg", "images/val/a.jpg", "images/b.png", "other/b.txt", ".hidden/b.png", "x/c d.JPG"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    images = Images(tmp_path)
    assert len(list(images)) == 4
    assert images.find("train/a.jpg") == tmp_path / "images/train/a.jpg"
    assert images.find("a.jpg", "val") == tmp_path / "images/val/a.jpg"
    assert images.find("a.jpg", beside=tmp_path / "images" / "train") == tmp_path / "images/train/a.jpg"
    assert images.find("a.jpg") == "a.jpg may be images/train/a.jpg or images/val/a.jpg"
    for name in (r"C:\data\mine\b.png", "../up/b.png", "https://host/b.png?x=1", "/data/local-files/?d=mine/b.png"):
        assert images.find(name) == tmp_path / "images/b.png"
    assert images.find("/data/upload/2/c%20d.JPG") == tmp_path / "x/c d.JPG"
    assert images.find("d.png") == "d.png is missing"
    assert [part_named(name) for name in ("Validation", "train2017", "constrained", "test_train")] == [
        "val",
        "train",
        None,
        None,
    ]
