"""Image files of any size to files of labels: georeference, pixels without data, bands, resumed runs, the command."""

import cv2
import numpy as np
import pytest
from test_inference_tiles import Blur, image

from keras_deeplab.cli import main
from keras_deeplab.data.images import read_image
from keras_deeplab.data.masks import decode_label_png
from keras_deeplab.data.settings import ImageOptions
from keras_deeplab.inference.predictor import Predictor
from keras_deeplab.inference.rasters import reading
from keras_deeplab.inference.rasters.base import Pixels, Rolling
from keras_deeplab.inference.rasters.reading import Bands, open_raster
from keras_deeplab.inference.rasters.writing import write_label_raster
from keras_deeplab.inference.strategies import Tiles
from keras_deeplab.inference.tiles import raster as of_raster
from keras_deeplab.inference.tiles.journal import Journal
from keras_deeplab.inference.tiles.raster import segment_raster, verify_raster
from keras_deeplab.inference.tiles.settings import TileOptions

rasterio = pytest.importorskip("rasterio", reason="needs rasterio, the extra geotiff")
TILES = TileOptions.of(tile=112, halo=32)


@pytest.fixture
def predict():
    return Predictor(Blur(9))


def geotiff(path, pixels, **settings):
    profile = {"driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1], "count": pixels.shape[2]}
    place = rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6)
    profile |= {"dtype": pixels.dtype, "crs": "EPSG:32632", "transform": place, "tiled": True} | settings
    with rasterio.open(path, "w", blockxsize=64, blockysize=64, **profile) as file:
        file.write(np.moveaxis(pixels, -1, 0))
    return path


def quiet(predict, path, target, **settings):
    told = []
    written = segment_raster(predict, path, target, tiles=TILES, progress=False, log=told.append, **settings)
    return written, told


def test_a_geotiff_keeps_its_place_and_gets_colours_and_the_ignored_label(tmp_path, predict):
    pixels = image()
    path = geotiff(tmp_path / "field.tif", pixels)
    written, told = quiet(predict, path, tmp_path / "labels.tif")
    assert written.size == (150, 131)
    assert "131x150 pixels" in told[0]
    with rasterio.open(path) as source, rasterio.open(written.path) as file:
        assert (file.crs, file.transform) == (source.crs, source.transform)
        assert (file.count, file.dtypes, file.nodata) == (1, ("uint8",), 255)
        assert file.profile["tiled"]
        assert file.compression.name == "deflate"
        assert [file.colormap(1)[label][:3] for label in (0, 1)] == [(0, 0, 0), (128, 0, 0)]
        np.testing.assert_array_equal(file.read(1), predict(pixels))
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_pixels_without_data_are_padding_to_the_model_and_ignored_in_the_labels(tmp_path, predict):
    pixels = image(150, 300)
    pixels[:, 120:] = 0
    pixels[40:60, :30] = 0
    empty = (pixels == 0).all(-1)
    written, _ = quiet(predict, geotiff(tmp_path / "a.tif", pixels, nodata=0), tmp_path / "b.tif")
    with rasterio.open(written.path) as file:
        labels = file.read(1)
    # A pixel counts where any of its bands has data; a band that is 0 by itself says nothing.
    np.testing.assert_array_equal(labels == 255, empty)
    shown = np.where(empty[..., None], 127.5, pixels).astype(np.float32)
    np.testing.assert_array_equal(labels[~empty], predict(shown)[~empty])
    assert len(predict.runtime.seen) < 1 + 2 * 4  # nothing is run where there is nothing


def test_labels_go_to_a_png_that_other_readers_understand(tmp_path, predict):
    pixels = image()
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    written, _ = quiet(predict, tmp_path / "a.png", tmp_path / "labels.png")
    labels, palette = decode_label_png(written.path.read_bytes())
    np.testing.assert_array_equal(labels, predict(pixels))
    assert palette[1].tolist() == [128, 0, 0]
    np.testing.assert_array_equal(cv2.imread(str(written.path), cv2.IMREAD_COLOR)[..., 2] == 128, labels == 1)
    many = np.arange(600, dtype=np.uint16).reshape(20, 30)
    write_label_raster(tmp_path / "b.png", lambda top, bottom: many[top:bottom], 20, 30, dtype=np.uint16)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED), many)


@pytest.mark.parametrize("kind", [".tif", ".png", ".jpg"])
def test_bands_of_a_file_are_what_a_whole_reading_gives(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    cv2.imwrite(str(path), cv2.GaussianBlur(image(), (0, 0), 3))
    with Bands(path, 3, ImageOptions.of(), None) as raster:
        rolling = Rolling(raster.read)
        parts = [rolling(top, min(top + 60, 150)).images[: min(40, 150 - top)] for top in range(0, 150, 40)]
        assert raster.origin == {}
    # GDAL brings a JPEG decoder of its own, which spreads colours in another way between pixels.
    np.testing.assert_allclose(np.concatenate(parts).astype(int), read_image(path), atol=8 * (kind == ".jpg"))


def test_bands_that_are_no_channels_are_asked_for(tmp_path, predict):
    pixels = np.concatenate([image(), image(seed=1)], -1)
    path = geotiff(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match=r"a.tif has 6 bands, and the model takes 3: say which bands they are"):
        open_raster(path, 3)
    with open_raster(path, 3, bands=(5, 1, 2)) as raster:
        np.testing.assert_array_equal(raster.read(0, 150).images, pixels[..., [4, 0, 1]])
    with pytest.raises(ValueError, match="no band 7"):
        open_raster(path, 3, bands=(1, 2, 7))
    with open_raster(path, 6) as raster:
        np.testing.assert_array_equal(raster.read(20, 60).images, pixels[20:60])
    np.save(tmp_path / "a.npy", np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match=r"a.npy holds an array of shape \(9, 9\)"):
        open_raster(tmp_path / "a.npy", 3)


def test_more_than_8_bits_need_their_range(tmp_path):
    pixels = image().astype(np.uint16) * 16
    path = geotiff(tmp_path / "a.tif", pixels)
    with open_raster(path, 3) as raster, pytest.raises(ValueError, match=r"a.tif has pixels of uint16"):
        raster.read(0, 10)
    with open_raster(path, 3, ImageOptions.of(image_range=(0, 4080))) as raster:
        np.testing.assert_array_equal(raster.read(0, 150).images, image())


def test_files_beyond_the_limit_are_read_in_bands_or_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.bmp"), image())
    with pytest.raises(ValueError, match="more than the 1000 that are decoded as a whole"):
        open_raster(tmp_path / "a.bmp", 3, max_pixels=1000)
    cv2.imwrite(str(tmp_path / "a.png"), image())
    assert isinstance(open_raster(tmp_path / "a.png", 3, max_pixels=1000), Bands)
    assert not open_raster(tmp_path / "a.png", 3).streams
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.png is cut short"):
        open_raster(tmp_path / "cut.png", 3, max_pixels=1000)


def test_rows_that_overlap_are_read_once():
    asked = []

    def read(top, bottom):
        asked.append((top, bottom))
        rows = np.arange(top, bottom)
        return Pixels(np.repeat(rows[:, None, None], 2, 1), np.repeat(rows[:, None] % 2 == 0, 2, 1))

    rolling = Rolling(read)
    for top, bottom in ((0, 50), (30, 80), (30, 80), (70, 100)):
        assert rolling(top, bottom).images[:, 0, 0].tolist() == list(range(top, bottom))
    assert asked == [(0, 50), (50, 80), (80, 100)]
    assert rolling.valid(20, 60)[:, 0].tolist() == [row % 2 == 0 for row in range(20, 60)]
    assert rolling.valid(60, 100).shape == (40, 2)


def test_a_run_that_ends_on_the_way_goes_on_there_and_has_the_same_bytes(tmp_path, predict, monkeypatch):
    path = geotiff(tmp_path / "a.tif", image(400, 131))
    expected = quiet(predict, path, tmp_path / "whole.tif")[0].path.read_bytes()
    tiles, kept = len(predict.runtime.seen), Journal.add

    def ends(self, tiles, labels):
        kept(self, tiles, labels)
        if tiles == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", ends)
    with pytest.raises(KeyboardInterrupt):
        quiet(predict, path, tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()
    monkeypatch.setattr(Journal, "add", kept)
    before = len(predict.runtime.seen)
    written, told = quiet(predict, path, tmp_path / "b.tif")
    assert 0 < written.resumed_rows < 400
    assert f"going on at row {written.resumed_rows}" in told[1]
    # Of the two rows of two tiles that were there the last is made again, for what the next one needs of it.
    assert len(predict.runtime.seen) - before == tiles - 2 * 2 + 2
    assert written.path.read_bytes() == expected
    assert not (tmp_path / ".b.tif.tiles").exists()


def test_what_another_model_left_is_not_gone_on_with(tmp_path, predict, monkeypatch):
    path = geotiff(tmp_path / "a.tif", image(400, 131))
    (tmp_path / ".b.tif.tiles").mkdir()
    monkeypatch.setattr(of_raster, "write_label_raster", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        quiet(predict, path, tmp_path / "b.tif")
    monkeypatch.undo()
    other = Blur(9)
    other.name = "another"
    assert quiet(Predictor(other), path, tmp_path / "b.tif")[0].resumed_rows == 0
    with pytest.raises(ValueError, match="would replace it"):
        quiet(predict, path, path)


def test_two_processes_dont_write_one_target(tmp_path, predict):
    path = geotiff(tmp_path / "a.tif", image())
    with (
        Journal(tmp_path / "b.tif", {}, 131, np.uint8),
        pytest.raises(OSError, match="another process is writing"),
    ):
        quiet(predict, path, tmp_path / "b.tif")


def test_verify_counts_the_labels_that_tiles_change(tmp_path):
    pixels = image(150, 140)
    path = geotiff(tmp_path / "a.tif", pixels)
    found = verify_raster(Predictor(Blur(9)), path, tiles=TILES)
    assert (found.whole, found.changed) == (True, 0)
    found = verify_raster(Predictor(Blur(9)), path, tiles=TileOptions.of(tile=64, halo=0), crop=(130, 120))
    assert (found.size, found.corner, found.whole) == ((130, 120), (10, 10), False)
    assert 0 < found.share < 0.2
    by_tiles = Predictor(Blur(9), Tiles(Blur(9), None, TileOptions.of(tile=64, halo=0)))
    assert verify_raster(by_tiles, path).changed > 0  # not tiles beside tiles
    with pytest.raises(ValueError, match="are one tile, so there is nothing to compare"):
        verify_raster(Predictor(Blur(9)), path)


def test_the_command(tmp_path, capsys, monkeypatch):
    from keras_deeplab.inference import predictor as room

    monkeypatch.setattr(room, "_opened", lambda *_: Blur(9))
    path = geotiff(tmp_path / "a.tif", image())
    assert main(["tiles", "write", "MODEL", str(path), "--tile", "112", "--halo", "32"]) == 0
    with rasterio.open(tmp_path / "a_labels.tif") as file:
        np.testing.assert_array_equal(file.read(1), Predictor(Blur(9))(image()))
    words = ["tiles", "verify", "MODEL", str(path), "--tile", "64", "--halo", "0"]
    assert main(words) == 0
    assert "labels changed" in capsys.readouterr().out
    assert main([*words, "--max-changed", "0"]) == 1
    with pytest.raises(SystemExit):
        main(["tiles", "verify", "MODEL", str(path), "--output", "b.tif"])
    assert "--output is of the action write" in capsys.readouterr().err


def test_without_rasterio_a_tiff_file_is_decoded_as_a_whole(tmp_path, monkeypatch):
    path = geotiff(tmp_path / "a.tif", image())

    def missing(purpose):
        raise ImportError(f"{purpose} needs rasterio")

    monkeypatch.setattr(reading, "import_rasterio", missing)
    with open_raster(path, 3) as raster:
        assert not raster.streams
        np.testing.assert_array_equal(raster.read(0, 150).images, image())
    with pytest.raises(ImportError, match="needs rasterio"):
        open_raster(path, 3, max_pixels=1000)
