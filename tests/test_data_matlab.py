"""MATLAB files: as SciPy writes them, as MATLAB writes them, and damaged ones."""

import contextlib
import struct
import zlib

import numpy as np
import pytest

from keras_deeplab.data.matlab import read_mat

# Made by hand from the format's description, so that there is one without SciPy: A = uint16([1 2; 300 4]).
HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
FLAGS = struct.pack("<IIII", 6, 8, 11, 0)
SHAPE = struct.pack("<IIii", 5, 8, 2, 2)
NAME = struct.pack("<HH4s", 1, 1, b"A")
VALUES = struct.pack("<II4H", 4, 8, 1, 300, 2, 4)
A = struct.pack("<II", 14, len(FLAGS + SHAPE + NAME + VALUES)) + FLAGS + SHAPE + NAME + VALUES


def packed(element):
    shrunk = zlib.compress(element)
    return struct.pack("<II", 15, len(shrunk)) + shrunk


@pytest.mark.parametrize("body", [A, packed(A), packed(A) + A])
def test_an_array_written_by_hand(body):
    found = read_mat(HEADER + body)
    assert found.keys() == {"A"}
    np.testing.assert_array_equal(found["A"], np.array([[1, 2], [300, 4]], np.uint16), strict=True)


@pytest.mark.parametrize("do_compression", [True, False])
def test_what_scipy_writes(tmp_path, do_compression):
    io = pytest.importorskip("scipy.io")
    sparse = pytest.importorskip("scipy.sparse")
    segmentation = np.random.default_rng(0).integers(0, 21, (37, 51), np.uint8)
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = sparse.csc_matrix(segmentation == index)
    written = {
        "GTcls": {"Boundaries": boundaries, "Segmentation": segmentation, "CategoriesPresent": np.array([[3], [9]])},
        "several": np.array([(1, "a"), (2, "bc")], [("x", object), ("y", object)]),
        "text": "sheep",
        "nothing": np.zeros((0, 3)),
        "real": np.linspace(0, 1, 6).reshape(1, 2, 3),
        "small": np.float64(7),
    }
    io.savemat(tmp_path / "x.mat", written, do_compression=do_compression)
    found = read_mat((tmp_path / "x.mat").read_bytes())
    np.testing.assert_array_equal(found["GTcls"]["Segmentation"], segmentation, strict=True)
    np.testing.assert_array_equal(found["GTcls"]["CategoriesPresent"], [[3], [9]])
    assert found["GTcls"]["Boundaries"] == [None] * 20
    assert [(row["x"].item(), row["y"]) for row in found["several"]] == [(1, "a"), (2, "bc")]
    assert found["text"] == "sheep"
    assert found["nothing"].shape == (0, 3)
    np.testing.assert_array_equal(found["real"], written["real"])
    assert found["small"].tolist() == [[7]]


def test_other_and_damaged_files_are_refused():
    for data, message in (
        (b"", "is no MATLAB file"),
        (b"\x89PNG" + bytes(200), "is no MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(200), "is a MATLAB 7.3 file"),
        (HEADER + A[:-4], "can't be decoded as a MATLAB file"),
        (HEADER + packed(A)[:-6], "can't be decoded as a MATLAB file"),
        (HEADER + A[:8] + A[8:].replace(SHAPE, struct.pack("<IIii", 5, 8, 2, 7)), "can't be decoded as a MATLAB file"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            read_mat(data)


def test_a_file_that_would_unpack_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("keras_deeplab._helpers.limits.MATLAB_BYTES", 1 << 16)
    with pytest.raises(ValueError, match="more than 65536 bytes"):
        read_mat(HEADER + packed(bytes(1 << 22)))


@pytest.mark.parametrize("seed", range(3))
def test_any_flipped_byte_gives_a_value_or_a_value_error(seed):
    generator = np.random.default_rng(seed)
    for _ in range(300):
        data = bytearray(HEADER + A)
        data[generator.integers(len(data))] = generator.integers(256)
        with contextlib.suppress(ValueError):
            read_mat(bytes(data))
