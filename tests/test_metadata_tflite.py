"""The metadata of TFLite files: tables by the standard's schema, files any ZIP reader lists, and both back."""

import io
import json
import zipfile

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.table import Table

from keras_deeplab.metadata import tflite as _tflite_metadata

FACTS = {
    "precision": "int8",
    "output": "labels",
    "input_sizes": [[257, 321]],
    "num_classes": 3,
    "upsampled": True,
    "resize": "align_corners",
}
NAMES, COLOURS = ["Straße", "car", "sky above"], np.array([[0, 0, 0], [255, 1, 2], [3, 4, 5]], np.uint8)


class Reader:
    """A table by the numbers of its slots in metadata_schema.fbs, read with flatbuffers alone."""

    def __init__(self, data, position):
        self.table = Table(data, position)

    def _at(self, slot):
        return self.table.Offset(4 + 2 * slot)

    def text(self, slot):
        return self.table.String(self.table.Pos + self._at(slot)).decode()

    def number(self, slot, kind):
        offset = self._at(slot)
        return self.table.Get(kind, self.table.Pos + offset) if offset else 0

    def child(self, slot):
        return Reader(self.table.Bytes, self.table.Indirect(self.table.Pos + self._at(slot)))

    def children(self, slot):
        offset = self._at(slot)
        if not offset:
            return []
        start, count = self.table.Vector(offset), self.table.VectorLen(offset)
        return [Reader(self.table.Bytes, self.table.Indirect(start + 4 * index)) for index in range(count)]

    def floats(self, slot):
        return self.table.GetVectorAsNumpy(number_types.Float32Flags, self._at(slot)).tolist()


def root(content):
    return Reader(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))


def file(tmp_path, archive):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100) + archive)
    return path


def test_tables_follow_the_schema():
    content, _ = _tflite_metadata.write("mine", FACTS, NAMES, COLOURS)
    assert content[4:8] == b"M001"
    model = root(content)
    assert model.text(0) == "mine"
    assert model.text(7) == "1.0.0"
    assert [(entry.text(0), entry.number(2, number_types.Int8Flags)) for entry in model.children(6)] == [
        ("palette.txt", 0),
        ("export.json", 0),
    ]
    (graph,) = model.children(3)
    (images,), (labels,) = graph.children(2), graph.children(3)
    assert (images.text(0), labels.text(0)) == ("images", "labels")
    properties = images.child(3)
    assert properties.number(0, number_types.Uint8Flags) == 2  # ImageProperties
    assert properties.child(1).number(0, number_types.Int8Flags) == 1  # RGB
    size = properties.child(1).child(1)
    assert [size.number(slot, number_types.Uint32Flags) for slot in (0, 1)] == [321, 257]
    assert [properties.child(2).number(slot, number_types.Int32Flags) for slot in (0, 1)] == [0, 255]
    (unit,) = images.children(4)
    assert unit.number(0, number_types.Uint8Flags) == 1  # NormalizationOptions
    assert (unit.child(1).floats(0), unit.child(1).floats(1)) == ([0.0], [1.0])
    (names,) = labels.children(6)
    assert (names.text(0), names.number(2, number_types.Int8Flags)) == ("labels.txt", 3)  # TENSOR_VALUE_LABELS


def test_logits_have_their_names_along_an_axis_and_each_size_a_table():
    facts = {**FACTS, "output": "logits", "input_sizes": [[65, 65], [97, 97]]}
    graphs = root(_tflite_metadata.write("mine", facts, NAMES)[0]).children(3)
    assert len(graphs) == 2
    (names,) = graphs[1].children(3)[0].children(6)
    assert names.number(2, number_types.Int8Flags) == 2  # TENSOR_AXIS_LABELS
    (bare,) = root(_tflite_metadata.write("mine", FACTS)[0]).children(3)
    assert bare.children(3)[0].children(6) == []


def test_files_come_back(tmp_path):
    archive = _tflite_metadata.write("mine", FACTS, NAMES, COLOURS)[1]
    assert archive == _tflite_metadata.write("mine", FACTS, NAMES, COLOURS)[1]
    path = file(tmp_path, archive)
    facts, classes, palette = _tflite_metadata.read(path)
    assert (facts, classes) == (FACTS, NAMES)
    np.testing.assert_array_equal(palette, COLOURS)
    assert palette.dtype == np.uint8
    text = _tflite_metadata.describe(path)
    for part in ("int8", "257x321", "3: Straße, car, sky above", "3 colours"):
        assert part in text
    assert _tflite_metadata.read(file(tmp_path, _tflite_metadata.write("mine", FACTS)[1])) == (FACTS, None, None)


def archive_of(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return stream.getvalue()


def test_files_of_other_programs_have_what_they_have(tmp_path):
    assert _tflite_metadata.read(file(tmp_path, b"")) == (None, None, None)
    assert _tflite_metadata.describe(tmp_path / "model.tflite") is None
    assert _tflite_metadata.read(tmp_path / "nowhere.tflite") == (None, None, None)
    assert _tflite_metadata.read(file(tmp_path, archive_of(labels_txt="a\nb"))) == (None, ["a", "b"], None)
    foreign = json.dumps({"output": "boxes"})
    assert _tflite_metadata.read(file(tmp_path, archive_of(export_json=foreign))) == (None, None, None)


@pytest.mark.parametrize(
    "files",
    [
        {"export_json": "{"},
        {"palette_txt": "1 2\n"},
        {"palette_txt": "1 2 256\n"},
        {"palette_txt": "1 2 x\n"},
        {"palette_txt": "\n"},
        {"labels_txt": b"\xff\xfe\xff"},
    ],
)
def test_broken_metadata_is_named(files, tmp_path):
    path = file(tmp_path, archive_of(**files))
    with pytest.raises(ValueError, match=rf"metadata of {path}"):
        _tflite_metadata.read(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [(30 + len("labels.txt"), b"x"), (6, b"\x01"), (8, b"\x63")],
    ids=["damaged", "password", "compression"],
)
def test_entries_that_cannot_be_read_are_named(place, value, tmp_path):
    content = bytearray(archive_of(labels_txt="sky\nroad"))
    directory = content.index(b"PK\x01\x02")
    content[place : place + 1] = value
    if place < 30:  # the same field of the central directory
        content[directory + place + 2 : directory + place + 3] = value
    path = file(tmp_path, bytes(content))
    with pytest.raises(ValueError, match=rf"metadata of {path} can't be read"):
        _tflite_metadata.read(path)
