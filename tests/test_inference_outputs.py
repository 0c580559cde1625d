"""What is made of answers: every pixel of every output, and classes left out or taken together."""

import csv
import io
import json

import cv2
import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab.data.annotations.encoded import coco_counts, coco_text, from_counts
from keras_deeplab.data.annotations.regions import Canvas, polygon
from keras_deeplab.data.masks import decode_label_png
from keras_deeplab.inference.answers import Answer
from keras_deeplab.inference.outputs import OUTPUTS, Legend, Place, Result, choose, place_of
from keras_deeplab.inference.outputs.maps import entropy
from keras_deeplab.inference.outputs.regions import regions_of
from keras_deeplab.specs import Classes, ModelSpec

NAMES = ("background", "car", "bus", "person")
RNG = np.random.default_rng(0)
# A ring around two holes that meet in a corner, one of which holds a pixel of another class; a region that touches
# itself in a corner; one pixel; the image's edges.
TRICKY = np.array(
    [
        [1, 1, 1, 1, 1, 0, 2, 0],
        [1, 0, 1, 1, 1, 0, 0, 2],
        [1, 1, 0, 0, 1, 0, 2, 2],
        [1, 1, 0, 3, 1, 0, 2, 0],
        [1, 1, 1, 1, 1, 0, 2, 2],
    ],
    np.uint8,
)


def legend(names=NAMES, **settings):
    return Legend.of(Classes(names), ModelSpec(len(names), classes=Classes(names), **settings))


def result(labels=TRICKY, probabilities=None, **settings):
    settings = {"legend": legend(), "name": "a.jpg"} | settings
    image = np.zeros((*labels.shape, 3), np.uint8)
    return Result(image=image, answer=Answer(labels, probabilities, None, None), **settings)


def made(name, found):
    (contents,) = OUTPUTS[name].make(found).values()
    return contents


def maps():
    yield TRICKY
    random = np.random.default_rng(1)
    for _ in range(60):
        height, width = random.integers(1, 12, 2)
        yield random.integers(0, random.integers(2, 5), (height, width)).astype(np.uint8)


def rasterised(collection, shape):
    """GeoJSON painted by the pixels' centres; every pixel may be covered once."""
    labels, times = np.zeros(shape, np.uint8), np.zeros(shape, int)
    for feature in collection["features"]:
        region = polygon(Canvas(*shape), [np.array(ring[:-1], float) for ring in feature["geometry"]["coordinates"]])
        rows = slice(region.top, region.top + region.mask.shape[0])
        columns = slice(region.left, region.left + region.mask.shape[1])
        labels[rows, columns][region.mask] = feature["properties"]["label"]
        times[rows, columns] += region.mask
    assert times.max(initial=0) <= 1
    return labels


def area(ring):
    x, y = np.array(ring, float).T
    return (x[:-1] @ y[1:] - y[:-1] @ x[1:]) / 2


@pytest.mark.parametrize("number", range(61))
def test_polygons_give_the_labels_back(number):
    labels = list(maps())[number]
    collection = json.loads(made("polygons", result(labels)))
    np.testing.assert_array_equal(rasterised(collection, labels.shape), labels)
    for feature in collection["features"]:
        outer, *holes = feature["geometry"]["coordinates"]
        assert all(ring[0] == ring[-1] for ring in (outer, *holes))
        # No ring touches itself (its corners are all different), outer ones turn counterclockwise and holes clockwise.
        assert all(len({tuple(corner) for corner in ring}) == len(ring) - 1 for ring in (outer, *holes))
        assert area(outer) > 0
        assert all(area(hole) < 0 for hole in holes)
        assert area(outer) + sum(map(area, holes)) == feature["properties"]["pixels"]


def test_polygons_are_as_another_program_fills_them():
    features = pytest.importorskip("rasterio.features")
    for labels in maps():
        found = json.loads(made("polygons", result(labels)))["features"]
        shapes = [(feature["geometry"], feature["properties"]["label"]) for feature in found]
        if shapes:
            filled = features.rasterize(shapes, out_shape=labels.shape, dtype="uint8")
            np.testing.assert_array_equal(filled, labels)


def test_two_holes_that_meet_in_a_corner_have_a_ring_each():
    regions = regions_of(TRICKY, (0,))
    assert [len(rings) for rings in regions.outlines] == [3, 1, 1, 1]
    assert regions.labels.tolist() == [1, 2, 2, 3]
    assert regions.pixels.tolist() == [20, 1, 6, 1]


def test_coco_has_every_pixel_and_is_read_back(tmp_path):
    mask = pytest.importorskip("pycocotools.mask")
    coco = pytest.importorskip("pycocotools.coco")
    name, make = OUTPUTS["coco"].collected
    writer, found = make(), list(maps())
    parts = [writer.part(result(labels, name=f"{number}.png")) for number, labels in enumerate(found)]
    contents = b"".join([writer.head(legend()), *map(writer.add, parts), writer.tail()])
    assert name == "coco.json"
    told = json.loads(contents)
    assert [entry["name"] for entry in told["categories"]] == list(NAMES[1:])
    assert [entry["id"] for entry in told["annotations"]] == list(range(1, len(told["annotations"]) + 1))
    (tmp_path / name).write_bytes(contents)
    (tmp_path / "images").mkdir()
    opened = coco.COCO(str(tmp_path / name))
    for number, labels in enumerate(found):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.zeros((*labels.shape, 3), np.uint8))
        back = np.zeros_like(labels)
        for entry in opened.loadAnns(opened.getAnnIds(imgIds=number + 1)):
            back[opened.annToMask(entry) > 0] = entry["category_id"]
            assert mask.area(entry["segmentation"]) == entry["area"]
            assert mask.toBbox(entry["segmentation"]).tolist() == entry["bbox"]
        np.testing.assert_array_equal(back, labels)
    source = data.load(tmp_path / name, split="train", val_share=0.1)
    for sample in source.dataset():
        (number,) = np.flatnonzero([f"{each}" == sample["name"].numpy().decode() for each in range(len(found))])
        np.testing.assert_array_equal(sample["label"], found[number])


def test_runs_are_written_as_they_are_read():
    for counts in ([0, 3], [5], [5, 2, 2, 2, 5], [1000000, 1, 3, 70000, 2, 1]):
        assert coco_counts(coco_text(counts)) == counts
    for labels in maps():
        regions = regions_of(labels)
        for number, runs in enumerate(regions.runs, 1):
            np.testing.assert_array_equal(from_counts(runs, *labels.shape, by_columns=True), regions.numbers == number)


def test_areas_count_regions_and_pixels():
    found = result()
    rows = list(csv.DictReader(io.StringIO(made("areas", found).decode())))
    assert [(row["class"], row["pixels"], row["left"], row["top"], row["width"], row["height"]) for row in rows] == [
        ("car", "20", "0", "0", "5", "5"),
        ("bus", "1", "6", "0", "1", "1"),
        ("bus", "6", "6", "1", "2", "4"),
        ("person", "1", "3", "3", "1", "1"),
    ]
    assert (rows[3]["x"], rows[3]["y"], rows[3]["share"], rows[3]["square_metres"]) == ("3.50", "3.50", "0.025", "")
    _, make = OUTPUTS["areas"].collected
    writer = make()
    text = writer.head(legend()) + writer.add(writer.part(found)) + writer.tail()
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    assert [(row["class"], row["regions"], row["pixels"], row["largest"]) for row in rows] == [
        ("background", "", "12", ""),
        ("car", "1", "20", "20"),
        ("bus", "2", "7", "6"),
        ("person", "1", "1", "1"),
    ]


def softmaxed(shape=(5, 8), count=4):
    scores = RNG.random((*shape, count)).astype(np.float32)
    return scores / scores.sum(-1, keepdims=True)


def test_numbers_of_each_pixel():
    probabilities = softmaxed()
    found = result(probabilities=probabilities)
    with np.load(io.BytesIO(made("probabilities", found))) as arrays:
        np.testing.assert_array_equal(arrays["probabilities"], probabilities)
        assert arrays["names"].tolist() == list(NAMES)
        assert arrays["labels"].tolist() == [0, 1, 2, 3]
    with np.load(io.BytesIO(made("entropy", found))) as arrays:
        wanted = -(probabilities.astype(np.float64) * np.log(probabilities)).sum(-1)
        np.testing.assert_allclose(arrays["entropy"], wanted, rtol=1e-5)
    grey = cv2.imdecode(np.frombuffer(made("confidence", found), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(grey / 65535, probabilities.max(-1), atol=1e-5)
    sure = np.eye(3, dtype=np.float32)[None]
    np.testing.assert_array_equal(entropy(sure), 0)
    np.testing.assert_allclose(entropy(np.full((1, 1, 2), 0.5, np.float32), exclusive=False), 2 * np.log(2), rtol=1e-6)
    with pytest.raises(ValueError, match="labels alone"):
        made("entropy", result())


def test_labels_have_the_palette_of_the_data():
    colors = ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))
    shown = Legend.of(Classes(NAMES, colors))
    labels, palette = decode_label_png(made("labels", result(legend=shown)))
    np.testing.assert_array_equal(labels, TRICKY)
    assert palette[:4].tolist() == [list(color) for color in colors]


# Maps of the earth --------------------------------------------------------------------------------------------------


def geotiff(labels=TRICKY, crs="EPSG:32633", transform=(0.5, 0, 400000, 0, -0.5, 5000000)):
    rasterio = pytest.importorskip("rasterio")
    height, width = labels.shape
    with rasterio.MemoryFile() as memory:
        settings = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": height, "width": width}
        with memory.open(crs=crs, transform=rasterio.Affine(*transform), **settings) as file:
            file.write(np.repeat(labels[None], 3, 0))
        return memory.read()


def test_polygons_lie_on_the_map():
    features = pytest.importorskip("rasterio.features")
    import rasterio

    place = place_of(geotiff())
    collection = json.loads(made("polygons", result(place=place)))
    assert collection["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    for feature in collection["features"]:
        outer, *holes = feature["geometry"]["coordinates"]
        assert area(outer) > 0
        assert all(area(hole) < 0 for hole in holes)
    shapes = [(feature["geometry"], feature["properties"]["label"]) for feature in collection["features"]]
    settings = {"out_shape": TRICKY.shape, "transform": rasterio.Affine(*place.transform), "dtype": "uint8"}
    np.testing.assert_array_equal(features.rasterize(shapes, **settings), TRICKY)
    rows = list(csv.DictReader(io.StringIO(made("areas", result(place=place)).decode())))
    assert [float(row["square_metres"]) for row in rows] == [5.0, 0.25, 1.5, 0.25]


def test_longitude_and_latitude_have_no_name_and_no_metres():
    place = place_of(geotiff(crs="EPSG:4326", transform=(1e-5, 0, 10, 0, -1e-5, 50)))
    assert "crs" not in json.loads(made("polygons", result(place=place)))
    assert place.square_metres is None


def test_geotiff_gives_geotiff():
    rasterio = pytest.importorskip("rasterio")
    place, probabilities = place_of(geotiff()), softmaxed()
    for name in ("probabilities", "entropy", "confidence"):
        contents = OUTPUTS[name].make(result(place=place, probabilities=probabilities))
        assert list(contents) == [f"_{name}.tif"]
        with rasterio.MemoryFile(contents[f"_{name}.tif"]) as memory, memory.open() as file:
            assert (file.crs.to_epsg(), tuple(file.transform)[:6]) == (32633, place.transform)
            if name == "probabilities":
                np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), probabilities)
                assert file.descriptions == NAMES


def test_other_files_lie_nowhere():
    assert place_of(cv2.imencode(".tif", TRICKY)[1].tobytes()) is None
    assert place_of(cv2.imencode(".png", TRICKY)[1].tobytes()) is None


def test_a_map_that_is_turned_mirrors_nothing():
    turned = Place((0.0, 1.0, 5.0, 1.0, 0.0, 7.0))
    assert turned.mirrors
    assert not Place((1.0, 0.0, 0.0, 0.0, 1.0, 0.0)).mirrors
    assert turned.mapped(np.array([[2, 3]])).tolist() == [[8.0, 9.0]]


# Classes ------------------------------------------------------------------------------------------------------------


def test_only_makes_the_others_background():
    chosen = choose(legend(), only=["person"])
    probabilities = softmaxed()
    answer = chosen.answer(Answer(TRICKY, probabilities, np.eye(4, dtype=bool)[TRICKY], None))
    np.testing.assert_array_equal(answer.labels, np.where(TRICKY == 3, 3, 0))
    assert chosen.legend.channels == (0, 3)
    np.testing.assert_allclose(answer.probabilities[..., 0], probabilities[..., :3].sum(-1), rtol=1e-6)
    np.testing.assert_array_equal(answer.probabilities[..., 1], probabilities[..., 3])
    assert answer.masks.sum() == TRICKY.size
    assert "background" in chosen.notes[-1]


def test_only_of_classes_without_a_background_ignores_the_others():
    chosen = choose(legend(("road", "car", "bus", "person")), only=["bus", "person"])
    answer = chosen.answer(Answer(TRICKY, softmaxed(), None, None))
    np.testing.assert_array_equal(answer.labels, np.where(TRICKY >= 2, TRICKY, 255))
    assert (chosen.legend.channels, chosen.legend.rest) == ((2, 3, 255), (255,))
    np.testing.assert_allclose(answer.probabilities.sum(-1), 1, rtol=1e-5)
    assert "ignored label, 255" in chosen.notes[-1]


def test_merged_classes_have_one_label_and_the_sum_of_their_probabilities():
    chosen = choose(legend(), merge={"vehicle": ["car", "bus"]}, only=["vehicle"])
    probabilities = softmaxed()
    answer = chosen.answer(Answer(TRICKY, probabilities, None, None))
    np.testing.assert_array_equal(answer.labels, np.isin(TRICKY, (1, 2)))
    assert chosen.legend.names[1] == "vehicle"
    np.testing.assert_allclose(answer.probabilities[..., 1], probabilities[..., 1:3].sum(-1), rtol=1e-6)


def test_several_classes_a_pixel_are_decided_anew():
    several = legend(multi_label=True, activation="sigmoid")
    chosen = choose(several, only=["car", "person"])
    probabilities = np.array([[[0.9, 0.6, 0.1, 0.7], [0.9, 0.2, 0.8, 0.1]]], np.float32)
    answer = chosen.answer(Answer(np.array([[0, 0]], np.uint8), probabilities, probabilities > 0.5, None))
    assert chosen.needs_scores
    assert answer.labels.tolist() == [[3, 255]]
    assert answer.probabilities.shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["persn"]}, "only= has an unknown class 'persn': did you mean 'person'"),
        ({"merge": {"x": ["car", "van"]}}, "merge= has an unknown class 'van'"),
        ({"merge": {"x": ["car"], "y": ["car"]}}, "'car' twice"),
        ({"merge": {"person": ["car", "bus"]}}, "another class"),
        ({"merge": {"vehicle": ["car", "bus"]}, "only": ["bus"]}, "part of 'vehicle'"),
        ({"merge": {"vehicle": ["car", "bus"]}, "only": ["car"]}, "part of 'vehicle'"),
    ],
)
def test_classes_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        choose(legend(), **options)


def test_the_helps_name_every_output():
    from keras_deeplab.cli.shared import Images
    from keras_deeplab.options import options

    assert all(name in options(Images)["write"].help for name in OUTPUTS)
