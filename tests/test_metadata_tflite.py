"""The metadata of TFLite files: tables by the standard's schema, files any ZIP reader lists, and both back."""

import io
import json
import zipfile
from dataclasses import replace

import flatbuffers
import pytest
from flatbuffers import number_types
from flatbuffers.table import Table

from keras_deeplab.metadata import tflite as _tflite_metadata
from keras_deeplab.specs import Classes, FileSpec, ModelSpec

NAMES, COLOURS = ("Straße", "car", "sky above"), ((0, 0, 0), (255, 1, 2), (3, 4, 5))
SPEC = FileSpec(
    ModelSpec(3, classes=Classes(NAMES, COLOURS), builder="DeepLabV3", settings={"filters": 4}),
    input_sizes=((257, 321),),
    precision="int8",
)
BARE = replace(SPEC, model=ModelSpec(3))
# export.json before the record.
FACTS = {
    "precision": "int8",
    "output": "labels",
    "input_sizes": [[257, 321]],
    "num_classes": 3,
    "upsampled": True,
    "resize": "half_pixel_centers",
}


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
    content, _ = _tflite_metadata.write("mine", SPEC)
    assert content[4:8] == b"M001"
    model = root(content)
    assert model.text(0) == "mine"
    assert model.text(7) == "1.5.0"
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
    spec = replace(SPEC, output="logits", input_sizes=((65, 65), (97, 97)))
    graphs = root(_tflite_metadata.write("mine", spec)[0]).children(3)
    assert len(graphs) == 2
    (names,) = graphs[1].children(3)[0].children(6)
    assert names.number(2, number_types.Int8Flags) == 2  # TENSOR_AXIS_LABELS
    (bare,) = root(_tflite_metadata.write("mine", BARE)[0]).children(3)
    assert bare.children(3)[0].children(6) == []


def test_the_two_names_of_a_binary_model_are_none_of_its_one_channel():
    binary = FileSpec(ModelSpec(1, classes=Classes(("ground", "crop")), channels=1), "logits", True, ((65, 65),))
    model = root(_tflite_metadata.write("mine", binary)[0])
    assert [entry.text(0) for entry in model.children(6)] == ["labels.txt", "palette.txt", "export.json"]
    (graph,) = model.children(3)
    assert graph.children(3)[0].children(6) == []
    assert graph.children(2)[0].child(3).child(1).number(0, number_types.Int8Flags) == 2  # GRAYSCALE


def entries(archive):
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return {name: files.read(name).decode() for name in files.namelist()}


def test_files_come_back(tmp_path):
    archive = _tflite_metadata.write("mine", SPEC)[1]
    assert archive == _tflite_metadata.write("mine", SPEC)[1]
    path = file(tmp_path, archive)
    assert _tflite_metadata.read_spec(path) == SPEC
    assert _tflite_metadata.read_classes(path) == Classes(NAMES, COLOURS)
    # Other readers find the same.
    found = entries(archive)
    assert found["labels.txt"].splitlines() == list(NAMES)
    assert found["palette.txt"] == "0 0 0\n255 1 2\n3 4 5\n"
    text = _tflite_metadata.describe(path)
    for part in ("int8", "257x321", "3: Straße, car, sky above", "3 colours", "DeepLabV3"):
        assert part in text
    bare = _tflite_metadata.write("mine", BARE)[1]
    assert _tflite_metadata.read_spec(file(tmp_path, bare)) == BARE
    assert "3, without names" in _tflite_metadata.describe(path)
    # Colours are given where nothing names the classes, names never.
    assert "labels.txt" not in entries(bare)
    assert entries(bare)["palette.txt"] == "0 0 0\n128 0 0\n0 128 0\n"


def test_files_of_earlier_versions_have_a_record(tmp_path):
    parts = {"export_json": json.dumps(FACTS), "labels_txt": "a\nb\nc\n", "palette_txt": "0 0 0\n1 2 3\n4 5 6\n"}
    model = ModelSpec(3, classes=Classes(("a", "b", "c"), ((0, 0, 0), (1, 2, 3), (4, 5, 6))), resize=FACTS["resize"])
    expected = FileSpec(model, "labels", True, ((257, 321),), "int8")
    assert _tflite_metadata.read_spec(file(tmp_path, archive_of(**parts))) == expected
    without_count = {name: value for name, value in FACTS.items() if name != "num_classes"}
    parts["export_json"] = json.dumps(without_count)
    assert _tflite_metadata.read_spec(file(tmp_path, archive_of(**parts))) == expected
    # They called the one channel of a binary model a class.
    one = archive_of(export_json=json.dumps({**FACTS, "num_classes": 1}), labels_txt="a\n", palette_txt="0 0 0\n")
    assert _tflite_metadata.read_spec(file(tmp_path, one)).model == ModelSpec(1, resize=FACTS["resize"])
    for wrong in ({**FACTS, "num_classes": 4}, {**FACTS, "resize": ""}, {**FACTS, "input_sizes": [3]}):
        path = file(tmp_path, archive_of(**{**parts, "export_json": json.dumps(wrong)}))
        with pytest.raises(ValueError, match=rf"metadata of {path} can't be understood"):
            _tflite_metadata.read_spec(path)


def archive_of(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return stream.getvalue()


def test_files_of_other_programs_have_what_they_have(tmp_path):
    def read(content):
        path = file(tmp_path, content)
        return _tflite_metadata.read_spec(path), _tflite_metadata.read_classes(path)

    assert read(b"") == (None, None)
    assert _tflite_metadata.describe(tmp_path / "model.tflite") is None
    assert _tflite_metadata.read_spec(tmp_path / "nowhere.tflite") is None
    assert read(archive_of(labels_txt="a\nb")) == (None, Classes(("a", "b")))
    assert read(archive_of(labels_txt="???\n???")) == (None, None)
    assert read(archive_of(export_json=json.dumps({"output": "boxes"}))) == (None, None)
    assert read(archive_of(export_json="[]")) == (None, None)


@pytest.mark.parametrize(
    "files",
    [
        {"export_json": "{"},
        {"export_json": json.dumps({"model": {"format": 1}})},
        {"export_json": json.dumps({"model": {"format": 2, "num_classes": 3}})},
        {"export_json": json.dumps({"model": {"format": 1, "num_classes": 3}, "output": "boxes"})},
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
        _tflite_metadata.read_classes(path)


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
        _tflite_metadata.read_spec(path)
