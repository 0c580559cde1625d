"""Checkpoints in several files: the index and its shards."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_deeplab.weights.readers import kind_of, read

SHARDS = {"model-00001-of-00002.safetensors": {"a": 1.0}, "model-00002-of-00002.safetensors": {"b": 2.0, "c": 3.0}}


def _write(folder, shards=SHARDS, **changes):
    for file, arrays in shards.items():
        save_file({name: np.full((2,), value, "float32") for name, value in arrays.items()}, folder / file)
    places = {name: file for file, arrays in SHARDS.items() for name in arrays} | changes
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 24}, "weight_map": places}))
    return path


def test_an_index_gives_the_arrays_of_all_shards(tmp_path):
    path = _write(tmp_path)
    kind, arrays = read(path)
    assert (kind, kind_of(path)) == ("shards", "shards")
    assert {name: array.tolist() for name, array in arrays.items()} == {"a": [1, 1], "b": [2, 2], "c": [3, 3]}


def test_missing_shards_are_named(tmp_path):
    path = _write(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"'model-00002-of-00002.safetensors' is not beside it; 1 of 2 shards"):
        read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d": "model-00001-of-00002.safetensors"}, "lacks arrays that the index lists for it: 'd'"),
        ({"c": "model-00001-of-00002.safetensors"}, "lacks arrays that the index lists for it: 'c'"),
        ({"a": "../model.safetensors"}, "is no name of a shard"),
        ({"a": "config.json"}, "is no name of a shard"),
    ],
)
def test_an_index_that_is_not_its_shards_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read(_write(tmp_path, **changes))


def test_an_array_that_the_index_does_not_list_is_refused(tmp_path):
    more = {**SHARDS, "model-00001-of-00002.safetensors": {"a": 1.0, "extra": 0.0}}
    with pytest.raises(ValueError, match="holds arrays that the index doesn't list for it: 'extra'"):
        read(_write(tmp_path, more))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "{"])
def test_what_is_no_index_is_refused(tmp_path, text):
    path = tmp_path / "pytorch_model.bin.index.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="can't be read as an index of shards"):
        read(path)
