"""Folders of files of all kinds: what can be read is answered, what can't is named, and nothing hangs."""

import csv
import json
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_deeplab.cli import main
from keras_deeplab.data.images import TooManyPixels, declared_size, decode_image, read_image
from keras_deeplab.data.masks import decode_label_png
from keras_deeplab.inference.files import segment_files
from keras_deeplab.inference.inputs import distinct_names, image_entries, image_files
from keras_deeplab.inference.overlap import overlapped
from keras_deeplab.inference.predictor import Predictor
from keras_deeplab.inference.runtimes.base import Runtime
from keras_deeplab.specs import Classes, ModelSpec


class Halves(Runtime):
    """Says "car" of the left half of an image and "bus" of the rest, with scores."""

    spec = ModelSpec(4, classes=Classes(("background", "car", "bus", "person")))

    def scores(self, images):
        scores = np.zeros((*images.shape[:3], 4), np.float32)
        middle = images.shape[2] // 2
        scores[:, :, :middle, 1] = scores[:, :, middle:, 2] = 2
        return scores


class Reds(Runtime):
    """Says "car" where an image is red, pixel by pixel."""

    spec = Halves.spec

    def scores(self, images):
        scores = np.zeros((*images.shape[:3], 4), np.float32)
        scores[..., 1] = images[..., 0] - 128
        return scores


def halves(image):
    labels = np.ones(image.shape[:2], np.uint8)
    labels[:, image.shape[1] // 2 :] = 2
    return labels


def write(path, height=6, width=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def png_header(path, width, height):
    """A PNG file that tells a size and has next to no pixels."""

    def chunk(kind, contents):
        checksum = struct.pack(">I", zlib.crc32(contents, zlib.crc32(kind)))
        return struct.pack(">I", len(contents)) + kind + contents + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def bad_files(folder):
    """{name: what its reason must have}."""
    whole = write(folder.parent / "whole.jpg", 60, 80).read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    png_header(folder / "huge.png", 30000, 30000)
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "nothing.jpg").symlink_to("is_gone.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "device.png").symlink_to("/dev/zero")
    found = {
        "empty.jpg": "is empty",
        "text.png": "can't be decoded",
        "cut.jpg": "cut short",
        "huge.png": "30000x30000 pixels",
        "pipe.png": "named pipe",
        "loop.jpg": "symbolic links",
        "nothing.jpg": "No such file",
        "folder.jpg": "is a folder",
        "device.png": "is a device",
    }
    if os.geteuid():  # root reads everything
        write(folder / "closed.png").chmod(0)
        found["closed.png"] = "Permission denied"
    return found


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_bad_file_is_named_and_stops_no_other(tmp_path):
    folder, lines = tmp_path / "in", []
    for number in range(30):
        write(folder / f"{number:02d}.png")
    wanted = bad_files(folder)
    started = time.monotonic()
    written, failures = segment_files(halves, folder, tmp_path / "out", progress=False, log=lines.append)
    assert time.monotonic() - started < 30
    assert len(written) == 30
    assert {file.name for file, _ in failures} == set(wanted)
    for file, message in failures:
        assert str(file) in message
        assert wanted[file.name] in message
    assert [file for file, _ in failures] == sorted(file for file, _ in failures)
    assert len(lines) == len(wanted)
    assert len(list((tmp_path / "out").iterdir())) == 60
    # Named one by one, as a shell does.
    again, named = segment_files(halves, sorted(folder.iterdir()), tmp_path / "out", progress=False, log=lines.append)
    assert (len(again), len(named)) == (30, len(wanted))
    assert len(image_files(folder)) == 34  # the regular ones


def test_names_that_are_no_text_are_told(tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        (tmp_path / name).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has no such names")
    _, failures = segment_files(halves, tmp_path, tmp_path / "out", progress=False, outputs=["labels", "areas", "coco"])
    assert len(failures) == 1
    assert "is empty" in capsys.readouterr().out
    (tmp_path / name).unlink()
    cv2.imwrite(str(tmp_path / "ok.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "ok.png").rename(tmp_path / name)
    written, failures = segment_files(halves, tmp_path, tmp_path / "out", progress=False, outputs=["areas", "coco"])
    assert (len(written), failures) == (1, [])


def test_an_image_that_memory_does_not_suffice_for_is_told_and_the_next_are_written(tmp_path):
    for name, width in (("a", 8), ("b", 16), ("c", 8)):
        write(tmp_path / f"{name}.png", width=width)

    def small(image):
        if image.shape[1] > 8:
            raise MemoryError("Unable to allocate 244. MiB for an array with shape (64000000,)")
        return halves(image)

    written, failures = segment_files(small, tmp_path, tmp_path / "out", outputs=["labels"], progress=False)
    assert [path.name for paths in written for path in paths] == ["a.png", "c.png"]
    told = "there is not enough memory; keras-deeplab tiles takes images of any size"

    def damaged(image):
        raise ValueError("the SavedModel can't be run: Cannot parse tensor from proto")

    _, other = segment_files(damaged, tmp_path / "a.png", tmp_path / "out", outputs=["labels"], progress=False)
    assert other == [
        (tmp_path / "a.png", f"{tmp_path / 'a.png'}: the SavedModel can't be run: Cannot parse tensor from proto")
    ]
    assert failures == [(tmp_path / "b.png", f"{tmp_path / 'b.png'}: {told}")]


def test_the_limit_is_told_before_anything_is_decoded(tmp_path):
    png_header(tmp_path / "a.png", 3000, 2000)
    with pytest.raises(TooManyPixels, match=r"a\.png has 3000x2000 pixels, 6000000 in all, .* 5999999: max_pixels="):
        read_image(tmp_path / "a.png", max_pixels=5999999)
    with pytest.raises(ValueError, match=r"can't be decoded|is cut short"):
        read_image(tmp_path / "a.png", max_pixels=6000000)
    np.save(tmp_path / "b.npy", np.zeros((20, 30, 5), np.uint8))
    assert declared_size((tmp_path / "b.npy").read_bytes()) == (20, 30)
    with pytest.raises(TooManyPixels):
        decode_image((tmp_path / "b.npy").read_bytes(), 5, max_pixels=599)
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((20, 30, 5), np.uint8), planarconfig="contig")
    assert declared_size((tmp_path / "c.tif").read_bytes()) == (20, 30)


def test_names_are_distinct_whatever_comes_together():
    def names(*files, endings=(".png", "_overlay.png"), taken=()):
        return list(distinct_names([Path(file) for file in files], endings, taken).values())

    assert names("a.jpg", "b.jpg") == ["a", "b"]
    assert names("a.jpg", "a.png", "A.bmp") == ["a_jpg", "a_png", "A_bmp"]
    assert names("x/a.jpg", "y/a.jpg") == ["x_a", "y_a"]
    assert names("x/a.jpg", "y/a.jpg", "y/a.png") == ["x_a", "y_a", "a_png"]
    assert names("m/x/a.jpg", "n/x/a.jpg") == ["m_x_a", "n_x_a"]
    assert names("y.jpg", "y_overlay.jpg") == ["y_jpg", "y_overlay_jpg"]
    assert names("x/a.jpg", "y/a.jpg", "x_a.jpg") == ["x_a_jpg", "y_a", "x_a"]
    assert names("areas.jpg", endings=(".csv",), taken=("areas.csv",)) == ["areas_jpg"]
    several = [f"{a}/{b}.{c}" for a in "xyz" for b in ("a", "x_a", "a_jpg", "A") for c in ("jpg", "png")]
    found = names(*several)
    targets = {f"{name}{ending}".casefold() for name in found for ending in (".png", "_overlay.png")}
    assert len(targets) == 2 * len(several)
    assert names(*several) == found


def test_same_names_of_one_run_do_not_replace_each_other(tmp_path):
    for number, name in enumerate(("x/a.jpg", "x/a.png", "y/a.jpg")):
        write(tmp_path / name, 6 + number, 8)
    lines = []
    written, _ = segment_files(
        halves, [tmp_path / "x", tmp_path / "y"], tmp_path / "out", progress=False, log=lines.append, outputs=["labels"]
    )
    sizes = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED).shape[0] for (file,) in written]
    assert sizes == [6, 7, 8]
    assert len({file for (file,) in written}) == 3
    assert all("another image has this name" in line for line in lines)


def test_everything_at_once(tmp_path):
    folder = tmp_path / "in"
    write(folder / "a.png")
    write(folder / "deep.png", 5, 4)
    outputs = ["labels", "overlay", "confidence", "probabilities", "entropy", "polygons", "coco", "areas"]
    predict = Predictor(Halves())
    written, failures = segment_files(
        predict, folder, tmp_path / "out", progress=False, outputs=outputs, merge={"vehicle": ["car", "bus"]}
    )
    assert failures == []
    assert [file.name for file in written[0]] == [
        "a.png",
        "a_overlay.png",
        "a_confidence.png",
        "a_probabilities.npz",
        "a_entropy.npz",
        "a.geojson",
        "a_regions.csv",
    ]
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [(entry["file_name"], entry["height"]) for entry in coco["images"]] == [("a.png", 6), ("deep.png", 5)]
    assert [entry["area"] for entry in coco["annotations"]] == [48, 20]
    with open(tmp_path / "out" / "areas.csv", newline="") as file:
        assert [(row["image"], row["class"], row["pixels"]) for row in csv.DictReader(file)] == [
            ("a.png", "vehicle", "48"),
            ("deep.png", "vehicle", "20"),
        ]
    assert not [file for file in (tmp_path / "out").iterdir() if file.name.startswith(".")]


def test_labels_are_the_same_whatever_else_is_written(tmp_path):
    write(tmp_path / "a.png", 7, 9)
    predict = Predictor(Halves())
    found = []
    for outputs in (["labels"], ["labels", "entropy"]):
        ((first, *_),), _ = segment_files(
            predict, tmp_path / "a.png", tmp_path / "out", progress=False, outputs=outputs
        )
        found.append(first.read_bytes())
    assert found[0] == found[1]


def test_labels_alone_give_no_probabilities(tmp_path):
    write(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"entropy can't be had .* labels alone"):
        segment_files(halves, tmp_path / "a.png", tmp_path / "out", progress=False, outputs=["entropy"])
    with pytest.raises(ValueError, match="Unknown output 'polygon': did you mean 'polygons'"):
        segment_files(halves, tmp_path / "a.png", tmp_path / "out", progress=False, outputs=["polygon"])
    assert not (tmp_path / "out").exists()


def test_georeferenced_files(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    (tmp_path / "in").mkdir()
    settings = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": 4, "width": 6, "crs": "EPSG:32633"}
    with rasterio.open(
        tmp_path / "in" / "a.tif", "w", transform=rasterio.Affine(2, 0, 10, 0, -2, 50), **settings
    ) as file:
        file.write(np.zeros((3, 4, 6), np.uint8))
    write(tmp_path / "in" / "b.png")
    written, _ = segment_files(
        Predictor(Halves()), tmp_path / "in", tmp_path / "out", progress=False, outputs=["polygons", "probabilities"]
    )
    assert [file.name for files in written for file in files] == [
        *("a.geojson", "a_probabilities.tif"),
        *("b.geojson", "b_probabilities.npz"),
    ]
    found = json.loads((tmp_path / "out" / "a.geojson").read_text())["features"]
    assert found[0]["geometry"]["coordinates"][0][0] == [10.0, 50.0]


def test_labels_of_larger_images_are_made_by_tiles(tmp_path):
    pytest.importorskip("rasterio")
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name, size in (("large.png", (90, 120)), ("small.png", (40, 50))):
        cv2.imwrite(str(tmp_path / "in" / name), random.integers(0, 256, (*size, 3)).astype(np.uint8))
    png_header(tmp_path / "in" / "torn.png", 30000, 30000)
    lines = []
    predict = Predictor(Reds())
    settings = {"progress": False, "log": lines.append, "max_pixels": 90 * 100, "outputs": ["labels"]}
    written, failures = segment_files(predict, tmp_path / "in", tmp_path / "out", **settings)
    assert [file.name for (file,) in written] == ["large.png", "small.png"]
    assert [file.name for file, _ in failures] == ["torn.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["large.png", "small.png"]
    for (file,) in written:
        labels, palette = decode_label_png(file.read_bytes())
        np.testing.assert_array_equal(labels, predict(read_image(tmp_path / "in" / file.name)))
        assert palette[1].tolist() == [128, 0, 0]
    _, failures = segment_files(predict, tmp_path / "in", tmp_path / "out", **{**settings, "only": ["car"]})
    assert len(failures) == 2
    assert "makes them by tiles" in failures[0][1]


# Overlap ------------------------------------------------------------------------------------------------------------


def test_reading_and_writing_go_on_while_the_model_works():
    """Three stages of 20 items that each take 10 ms: one after another 0.6 s."""
    events, held, most = [], set(), 0

    def read(item):
        nonlocal most
        time.sleep(0.01)
        held.add(item)
        most = max(most, len(held))
        return item

    def work(item, found):
        time.sleep(0.01)
        events.append(item)
        return found

    def write(item, made):
        time.sleep(0.01 if item % 3 else 0.03)
        held.discard(item)
        return made * 10

    started = time.monotonic()
    found = list(overlapped(range(20), read, work, write, ahead=2, behind=3))
    assert time.monotonic() - started < 0.55
    assert found == [(item, item * 10) for item in range(20)]
    assert events == list(range(20))
    assert most <= 2 + 3 + 3


def test_what_waits_to_be_written_is_bounded_by_its_bytes():
    waiting, most = 0, 0

    def work(item, found):
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return found

    def write(item, made):
        nonlocal waiting
        time.sleep(0.005)
        waiting -= 1

    list(overlapped(range(12), lambda item: item, work, write, behind=10, size=lambda made: 100, most=150))
    assert most <= 3


@pytest.mark.parametrize("stage", ["read", "work", "write"])
def test_an_exception_belongs_to_its_item(stage):
    def fails(name):
        def step(item, found=None):
            if name == stage and item == 2:
                raise KeyError("two")
            return item

        return step

    found = list(overlapped(range(5), fails("read"), fails("work"), fails("write")))
    assert [item for item, _ in found] == list(range(5))
    assert isinstance(found[2][1], KeyError)
    assert [value for item, value in found if item != 2] == [0, 1, 3, 4]


def test_an_interruption_leaves_whole_files_and_no_table(tmp_path):
    for number in range(12):
        write(tmp_path / "in" / f"{number:02d}.png", 40, 40)
    seen = []

    def interrupted(image):
        seen.append(image)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return halves(image)

    with pytest.raises(KeyboardInterrupt, match=r"of 12 images are written, each whole, and no areas\.csv"):
        segment_files(interrupted, tmp_path / "in", tmp_path / "out", progress=False, outputs=["labels", "areas"])
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) <= 8
    assert not [file for file in files if file.name.startswith(".") or file.name == "areas.csv"]
    for file in files:
        if file.suffix == ".png":
            assert decode_label_png(file.read_bytes())[0].shape == (40, 40)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]


def test_any_exception_of_the_model_is_one_images_reason(tmp_path):
    for number in range(3):
        write(tmp_path / "in" / f"{number}.png", 6 + number)

    def breaks(image):
        if image.shape[0] == 7:
            raise RuntimeError("out of luck")
        return halves(image)

    written, failures = segment_files(breaks, tmp_path / "in", tmp_path / "out", progress=False)
    assert len(written) == 2
    assert failures[0][1] == f"{tmp_path / 'in' / '1.png'}: RuntimeError: out of luck"


def test_no_name_is_found_twice(tmp_path, monkeypatch):
    write(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert image_entries(["a.png", "./a.png", tmp_path / "a.png", "*.png", "."]) == [Path("a.png")]


def test_the_command_tells_a_wrong_output_before_it_reads_a_model(tmp_path, capsys):
    write(tmp_path / "a.png")
    assert main(["predict", str(tmp_path / "none.keras"), str(tmp_path / "a.png"), "--write", "labls"]) == 1
    assert "did you mean 'labels'" in capsys.readouterr().err
