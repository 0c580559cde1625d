"""Laws that hold for every input: values and files there and back, sums of parts, tiles and the whole.

The examples are drawn by hypothesis, the same ones every time.
"""

import json

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_inference_tiles import Blur, by_tiles

from keras_deeplab.data import transforms
from keras_deeplab.data.annotations.encoded import coco_counts, coco_text, from_counts
from keras_deeplab.data.annotations.regions import Canvas, polygon
from keras_deeplab.data.mask_files import decode_mask
from keras_deeplab.data.masks import label_reader
from keras_deeplab.inference.files import encode_png
from keras_deeplab.inference.outputs.regions import regions_of
from keras_deeplab.inference.predictor import Predictor
from keras_deeplab.metadata import onnx, saved_model, tflite
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.specs import ACTIVATIONS, NORMALISATIONS, RESIZES, Classes, FileSpec, ModelSpec, label_map
from keras_deeplab.weights import handles

settings.register_profile("laws", derandomize=True, deadline=None, database=None, max_examples=40)
settings.load_profile("laws")

SIDES = st.integers(1, 24)
SHAPES = st.tuples(SIDES, SIDES)
LABELS = arrays.arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, 2, 255]))
SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))


# Records ------------------------------------------------------------------------------------------------------------

# A few characters of every kind: hypothesis's own tables of all of them take seconds to make.
LETTERS = st.sampled_from("aZ09_-.,:;/@ '\"\\<>{}[]%äß字\u202e\U0001f600")
TEXT = st.text(LETTERS, min_size=1, max_size=12).filter(str.strip)
COLOR = st.tuples(*[st.integers(0, 255)] * 3)
SETTINGS = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e6, 1e6) | TEXT, max_size=3
)


@st.composite
def model_specs(draw):
    count = draw(st.integers(2, 6))
    names = draw(st.none() | st.lists(TEXT, min_size=count, max_size=count, unique=True))
    colors = draw(st.none() | st.lists(COLOR, min_size=count, max_size=count))
    return ModelSpec(
        count,
        draw(st.integers(1, 9)),
        *(draw(st.none() | TEXT) for _ in range(3)),
        draw(st.sampled_from([None, 8, 16, 32])),
        draw(SETTINGS),
        draw(SETTINGS),
        draw(st.sampled_from([None, *NORMALISATIONS])),
        draw(st.none() | st.tuples(st.integers(-5, 5), st.integers(6, 70000))),
        Classes(names, colors),
        resize=draw(st.sampled_from(RESIZES)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        multi_label=draw(st.booleans()),
    )


FILE_SPECS = st.builds(
    FileSpec,
    model_specs(),
    st.sampled_from(["labels", "logits", "probabilities"]),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), max_size=3).map(tuple),
    st.sampled_from(["float32", "int8"]),
)


@given(FILE_SPECS)
def test_a_record_comes_back_from_every_file(tmp_path_factory, spec):
    folder = tmp_path_factory.mktemp("record")
    saved_model.write(folder, spec)
    _, archive = tflite.write("m", spec)
    (folder / "a.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(64) + archive)
    for found in (
        FileSpec.from_json(spec.to_json()),
        FileSpec.from_dict(json.loads(json.dumps(spec.to_dict()))),
        onnx.spec_from(spec.to_json()),
        saved_model.read_spec(folder),
        tflite.read_spec(folder / "a.tflite"),
    ):
        assert found == spec


@given(st.lists(TEXT, min_size=1, max_size=6, unique=True), st.data())
def test_labels_are_paired_by_name_whatever_their_order(names, data):
    other = data.draw(st.permutations(names))
    found = label_map(Classes(names), Classes(other), "names")
    assert [other[label] for label in found] == names


@given(st.text(LETTERS, max_size=40) | st.from_regex(r"[a-c.-]{1,4}/[a-c._-]{1,4}(@[a-c/.]{1,4})?/?", fullmatch=True))
def test_a_handle_is_parsed_to_what_it_says_or_refused(text):
    try:
        repo, revision = handles.parse(f"hf://{text}")
    except ValueError:
        assert text.count("/") != 1 or "@" in text or not text.replace("/", "").replace("-", "_").isidentifier()
    else:
        assert text.rstrip("/") == repo + ("" if revision is None else f"@{revision.rstrip('/')}")


# Labels -------------------------------------------------------------------------------------------------------------


@given(LABELS, SEEDS, st.tuples(st.integers(1, 30), st.integers(1, 30)), st.floats(0.3, 3.0))
@settings(max_examples=15)
def test_what_augments_makes_no_label_that_was_not_there(labels, seed, size, scale):
    image = np.repeat(labels[..., None], 3, axis=2)  # a picture of the labels
    there = {*np.unique(labels).tolist(), 255}
    made = [
        transforms.random_scaled_crop(image, labels, size, scale, seed),
        transforms.resize(image, labels, size),
        transforms.pad(image, labels, size),
    ]
    assert made[0][1].shape == size == made[1][1].shape
    for picture, label in made:
        assert set(np.unique(label).tolist()) <= there
        assert picture.shape[:2] == label.shape
    for flip in (transforms.random_flip, transforms.random_vertical_flip):
        picture, label = (np.asarray(part) for part in flip(image, labels, seed))
        np.testing.assert_array_equal(picture[..., 0], label)  # both, or neither
        assert sorted(label.ravel().tolist()) == sorted(labels.ravel().tolist())


@given(LABELS)
def test_regions_cover_each_label_and_come_back_from_their_outlines_and_runs(labels):
    found = regions_of(labels, without=(0,))
    np.testing.assert_array_equal(found.numbers > 0, labels != 0)
    again = np.zeros_like(labels)
    height, width = labels.shape
    for label, rings, runs in zip(found.labels, found.outlines, found.runs, strict=True):
        top, left, mask = polygon(Canvas(height, width, None), rings)
        again[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = label
        by_runs = from_counts(coco_counts(coco_text(runs.tolist())), height, width, by_columns=True)
        assert set(labels[by_runs].tolist()) == {label}
        assert by_runs.sum() == mask.sum()
    np.testing.assert_array_equal(again, labels)


@given(st.lists(st.integers(0, 2**31), max_size=20))
def test_run_lengths_come_back_from_coco_s_text(counts):
    assert coco_counts(coco_text(counts)) == counts


@given(LABELS)
def test_labels_come_back_from_a_png_file(labels):
    np.testing.assert_array_equal(label_reader(3)(*decode_mask(encode_png(labels))), labels)


@given(st.lists(st.tuples(LABELS, st.integers(0, 3)), min_size=1, max_size=4), st.integers(0, 4))
def test_confusion_matrices_of_parts_add_up_to_that_of_the_whole(pairs, cut):
    pairs = [(truth, np.roll(truth, shift) % 255 % 3) for truth, shift in pairs]
    whole = ConfusionMatrix(3)
    whole.update(*(np.concatenate([part.ravel() for part in each]) for each in zip(*pairs, strict=True)))
    parts = [ConfusionMatrix(3), ConfusionMatrix(3)]
    for number, (truth, found) in enumerate(pairs):
        parts[number >= cut].update(truth, found)
    for total in (parts[0] + parts[1], parts[1] + parts[0]):
        np.testing.assert_array_equal(total.matrix, whole.matrix)
    assert whole.num_pixels == sum(int((truth != 255).sum()) for truth, _ in pairs)


@given(st.integers(20, 130), st.integers(20, 130), st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=10)
def test_tiles_give_the_labels_of_the_whole_image(height, width, radius, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    predict = Predictor(Blur(radius))
    _, found = by_tiles(predict, image, tile=72, halo=16)
    np.testing.assert_array_equal(found, predict.in_one_piece(image))
