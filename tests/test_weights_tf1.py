"""Checkpoints of Google's DeepLab for TensorFlow 1: computed as by Google's code, read strictly, in every container."""

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from randomise import randomise
from tensorflow.core.protobuf import tensor_bundle_pb2

import keras_deeplab
from keras_deeplab._helpers import limits
from keras_deeplab.weights import recognise, tf1
from keras_deeplab.weights.readers import bundle

TOLERANCE = 2e-5
FIXTURES = [
    "deeplabv3_mobilenet_v2_official__os16",
    "deeplabv3_resnet_v1_50_beta_dense__os16",
    "deeplabv3plus_mobilenet_v2__os16",
    "deeplabv3plus_resnet_v1_50_beta__os16",
    "deeplabv3plus_resnet_v1_50_beta__os8",
    "deeplabv3plus_xception_41__os16",
    "deeplabv3plus_xception_65__os16",
    pytest.param("deeplabv3plus_xception_71__os16", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def synth(shared):
    """The module that reads the reference outputs."""
    sys.path.insert(0, str(shared / "reference"))
    import synth

    yield synth
    sys.path.remove(str(shared / "reference"))


def trainable_parameters(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXTURES)
def test_google_s_code_computes_the_same(synth, shared, name):
    fixture = synth.Fixture(shared / "reference" / f"slim__{name}.npz")
    model = keras_deeplab.load(
        fixture.state_dict(), output_stride=fixture.meta["output_stride"], include_preprocessing=False
    )
    assert trainable_parameters(model) == fixture.meta["params"]
    assert fixture.sizes == ["129x161", "128x160", "321x353"]  # odd, even, wider than the largest rate
    for size in fixture.sizes:
        assert synth.compare(fixture, size, model(fixture.input(size))) < TOLERANCE, size


@pytest.mark.slow
def test_google_s_code_computes_the_same_with_bounded_activations(synth, shared):
    fixture = synth.Fixture(shared / "reference" / "slim__deeplabv3plus_xception_65_bounded__os16.npz")
    model = keras_deeplab.load(
        fixture.state_dict(), backbone="xception_65_bounded", flavour="tf_bounded", include_preprocessing=False
    )
    for size in fixture.sizes:
        assert synth.compare(fixture, size, model(fixture.input(size))) < TOLERANCE, size


@pytest.mark.slow
def test_the_official_checkpoint_sees_the_person(shared):
    model = keras_deeplab.load(shared / "weights/deeplabv3_mnv2_pascal_trainval/model.ckpt-30000")
    folder = shared / "data/voc_person"
    image = tf.io.decode_jpeg((folder / "images/2007_000323.jpg").read_bytes())
    mask = tf.io.decode_png((folder / "masks/2007_000323.png").read_bytes())[:, :, 0].numpy()
    labels = np.argmax(model(image[None])[0], axis=-1)
    person, found, known = mask == 15, labels == 15, mask != 255
    assert person.sum() > 1000
    assert (person & found & known).sum() / ((person | found) & known).sum() > 0.8
    assert (labels == mask)[known].mean() > 0.9


def google_name(path):
    """A variable's name in Google's checkpoint, for MobileNetV2 without decoder."""
    layer, leaf = path.split("/")
    batch_norm = layer.endswith("_BN")
    layer = layer.removesuffix("_BN")
    if layer == "Conv1":
        scope = "MobilenetV2/Conv"
    elif layer.startswith("expanded_conv_"):
        scope = f"MobilenetV2/expanded_conv/{layer.rpartition('_')[2]}"
    elif layer.startswith("block_"):
        _, block, part = layer.split("_")
        scope = f"MobilenetV2/expanded_conv_{block}/{part}"
    else:
        scope = "logits/semantic" if layer == "logits" else layer
    if batch_norm:
        return f"{scope}/BatchNorm/{leaf}"
    depthwise = leaf == "kernel" and scope.endswith("depthwise")
    return scope + ("/depthwise_weights" if depthwise else {"kernel": "/weights", "bias": "/biases"}[leaf])


@pytest.fixture(scope="module")
def trained():
    """A small DeepLab with random weights."""
    return randomise(keras_deeplab.DeepLabV3("mobilenet_v2_dm05", num_classes=4))


@pytest.fixture
def arrays(trained):
    """What Google's checkpoint of `trained` holds, with the state of its training."""
    arrays = {google_name(variable.path): variable.numpy() for variable in trained.weights}
    arrays["global_step"] = np.int64(7)
    for slot in ("Momentum", "ExponentialMovingAverage", "Adam_1"):
        arrays[f"MobilenetV2/Conv/weights/{slot}"] = np.zeros(3, "float32")
    return arrays


def write(arrays, folder, name="model.ckpt", version="V2"):
    """Writes a checkpoint with TensorFlow 1's saver; returns its prefix."""
    folder.mkdir(exist_ok=True)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [
            v1.Variable(value, name=key, use_resource=False, dtype=np.asarray(value).dtype)
            for key, value in arrays.items()
        ]
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(variables, write_version=getattr(v1.train.SaverDef, version))
        return Path(saver.save(session, str(folder / name), global_step=7, write_meta_graph=False))


FEW = {
    "scope/Conv/weights": np.arange(6, dtype="float32").reshape(1, 1, 2, 3),
    "scope/Conv/weights/Momentum": np.ones(2, "float32"),
    "global_step": np.int64(7),
}


def assert_read(path):
    found = tf1.read(path)
    assert list(found) == ["scope/Conv/weights"]
    np.testing.assert_array_equal(found["scope/Conv/weights"], FEW["scope/Conv/weights"])


@pytest.fixture(params=["V1", "V2"])
def prefix(request, tmp_path):
    prefix = write(FEW, tmp_path / "checkpoint", version=request.param)
    assert (request.param == "V2") == Path(f"{prefix}.index").exists()
    return prefix


def pack(folder, archive, mode="w:gz", extra=()):
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, folder.name)
        for name, content in extra:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def test_a_checkpoint_is_read_from_every_container(prefix, tmp_path):
    assert_read(prefix)
    assert_read(str(prefix))
    assert_read(prefix.parent)
    assert_read(pack(prefix.parent, tmp_path / "a.tar.gz", extra=[("frozen_inference_graph.pb", b"0" * 99)]))
    assert_read(pack(prefix.parent, tmp_path / "plain.tar", mode="w"))


def test_an_archive_of_another_name_is_one_by_its_first_bytes(tmp_path):
    prefix = write(FEW, tmp_path / "checkpoint")
    archive = pack(prefix.parent, tmp_path / "model.tar.gz").rename(tmp_path / "download")
    assert_read(archive)


def test_a_checkpoint_is_read_by_its_index_and_data(tmp_path):
    prefix = write(FEW, tmp_path / "checkpoint")
    assert_read(f"{prefix}.index")
    assert_read(f"{prefix}.data-00000-of-00001")


def test_an_archive_that_was_cut_off_is_refused(tmp_path):
    noise = np.random.default_rng(0).standard_normal((300, 300)).astype("float32")
    prefix = write({**FEW, "noise": noise}, tmp_path / "checkpoint")
    archive = pack(prefix.parent, tmp_path / "a.tar.gz")
    content = archive.read_bytes()
    for size in (len(content) - 1000, len(content) // 2, 100, 5):
        archive.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a\.tar\.gz' is no archive that can be unpacked"):
            keras_deeplab.load(archive)
    broken = bytearray(content)
    broken[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    archive.write_bytes(broken)
    with pytest.raises(ValueError, match=r"no archive that can be unpacked|holds no checkpoint|can't be read"):
        keras_deeplab.load(archive)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_an_archive_that_becomes_far_larger_than_it_is_is_refused(mode, tmp_path):
    """Whether the bulk is in a checkpoint's own file or in one that is passed over, and before it is unpacked."""
    for name in ("model.ckpt-1.index", "other"):
        with tarfile.open(tmp_path / "a.tar.gz", mode) as tar:
            member = tarfile.TarInfo(name)
            member.size = 1 << 26
            tar.addfile(member, io.BytesIO(bytes(1 << 26)))
        with pytest.raises(ValueError, match=r"a\.tar\.gz.*far more than weights need"):
            keras_deeplab.load(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_a_checkpoint_that_was_cut_off_is_refused(version, tmp_path):
    prefix = write({**FEW, "noise": np.ones((300, 300), "float32")}, tmp_path / "checkpoint", version=version)
    path = prefix if version == "V1" else Path(f"{prefix}.data-00000-of-00001")
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 0):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"model\.ckpt-7.* can't be read|model\.ckpt-7.* is no checkpoint"):
            keras_deeplab.load(prefix)
    if version == "V2":
        path.unlink()
        with pytest.raises(ValueError, match=r"'model\.ckpt-7\.data-00000-of-00001' is missing"):
            keras_deeplab.load(prefix)


def entry(**changes):
    """What an index says of FEW's array, changed."""
    found = tensor_bundle_pb2.BundleEntryProto(dtype=1, size=24)
    for size in changes.pop("shape", (1, 1, 2, 3)):
        found.shape.dim.add(size=size)
    for name, value in changes.items():
        setattr(found, name, value)
    return found.SerializeToString()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (entry(shape=(1 << 40,)), r"has the shape \[1099511627776\] of float32, and 24 bytes"),
        (entry(shape=(1 << 40,), size=1 << 42), r"takes bytes 0 to 4398046511104 of 24: its data is cut off"),
        (entry(shape=(-1, -6)), "an unknown shape"),
        (entry(shape=(2, 3), dtype=2), "of float64, and 24 bytes"),
        (entry(dtype=99), "unknown type 99"),
        (entry(offset=1), "takes bytes 1 to 25 of 24"),
        (entry(shard_id=1), "-00001-of-00001' is missing"),
        (entry() + b"\x3a\x00", "in slices, or something unknown"),  # a slice
        (entry() + b"\x12\x02\x18\x01", "an unknown shape"),  # of no known rank
        (entry() + b"\x1d1234", "in slices, or something unknown"),
        (b"\xff" * 20, "more than 10 bytes"),
        (b"\x12\x7f", "cut off or damaged"),
    ],
)
def test_an_index_that_tensorflow_would_fail_over_is_refused(value, message, tmp_path):
    (tmp_path / "a.ckpt.data-00000-of-00001").write_bytes(bytes(24))
    (tmp_path / "a.ckpt.index").write_bytes(table({b"": b"\x08\x01", b"scope/Conv/weights": value}))
    with pytest.raises(ValueError, match=message) as caught:
        keras_deeplab.load(tmp_path / "a.ckpt")
    assert "a.ckpt" in str(caught.value)


def test_a_damaged_index_is_refused(tmp_path):
    (tmp_path / "a.ckpt.data-00000-of-00001").write_bytes(bytes(24))
    rows = {b"": b"\x08\x01", b"scope/Conv/weights": entry()}
    good = table(rows)
    bundle.check(_index(tmp_path, good))
    for data, message in [
        (good[1:], "can't be read"),
        (good[:-1], "cut off or damaged"),
        (good[:30] + good[-48:], "points beyond its end"),
        (table(rows, packed=1), "compressed"),
        (table(rows, twice=True), "has b'' twice"),
        (table({b"": b"\x08\x00"}), "number of files"),
        (table_of(bytes([1, 1, 2]) + b"a" + b"\x08\x01"), "damaged"),  # begins as a key that isn't there
        (table_of(bytes([0, 9, 0])), "damaged"),  # goes on behind its end
        (table({b"": b"\x08\x80\x80\x80\x80\x10"}), "number of files"),
    ]:
        with pytest.raises(
            ValueError, match=f"(?s)can't be read as a TensorFlow checkpoint.*{message}|^'[^']*' {message}"
        ):
            tf1.read(_index(tmp_path, data))


def test_a_block_has_room_for_what_stands_behind_it():
    data = bytes(20 + bundle._TRAILER + bundle._FOOTER)
    assert bundle._block(b"\0" + number(20), 0, data) == bytes(20)
    with pytest.raises(ValueError, match="points beyond its end"):
        bundle._block(b"\0" + number(21), 0, data)


def _index(folder, data):
    (folder / "a.ckpt.index").write_bytes(data)
    return folder / "a.ckpt"


def table(rows, packed=0, twice=False):
    """The bytes of a table with one block of rows, without checksums, which are looked at later."""
    return table_of(b"".join(row(key, value) for key, value in [*rows.items()] * (1 + twice)), packed)


def table_of(content, packed=0):
    """The same of the bytes of its rows."""
    first = block(content, packed)
    second = block(row(b"z", b"\0" + number(len(first) - 5)), packed)
    footer = b"\0\0" + number(len(first)) + number(len(second) - 5)
    return first + second + footer.ljust(40, b"\0") + bundle.MAGIC


def row(key, value):
    return bytes([0, len(key), len(value)]) + key + value


def block(content, packed):
    return content + bytes(4) + b"\1\0\0\0" + bytes([packed]) + bytes(4)


def number(value):
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def test_nothing_is_written_outside_by_an_archive(tmp_path):
    prefix = write(FEW, tmp_path / "checkpoint")
    name = f"../../{tmp_path.name}_evil"
    archive = pack(prefix.parent, tmp_path / "text.tar.gz", extra=[(f"{name}.txt", b"evil")])
    assert_read(archive)  # a member that is no part of a checkpoint is left where it is
    for evil in (f"{name}.index", f"/{tmp_path}/evil.index"):
        archive = pack(prefix.parent, tmp_path / "index.tar.gz", extra=[(evil, b"evil")])
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=r"index\.tar\.gz"):
            tf1.read(archive)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    prefix = write(FEW, tmp_path / "checkpoint")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("model.ckpt-7.index")
        link.type, link.linkname = tarfile.SYMTYPE, f"{prefix}.index"
        tar.addfile(link)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        tf1.read(tmp_path / "a.tar.gz")


def test_a_folder_without_a_checkpoint_or_with_two_is_refused(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .* it holds nothing"):
        keras_deeplab.load(folder)
    (folder / "notes.txt").write_text("none")
    with pytest.raises(FileNotFoundError, match=r"it holds notes\.txt"):
        keras_deeplab.load(folder)
    write(FEW, folder, "first.ckpt")
    write(FEW, folder, "second.ckpt", version="V1")
    with pytest.raises(ValueError, match=r"several checkpoints: first\.ckpt-7, second\.ckpt-7\. Give the path of one"):
        keras_deeplab.load(folder)


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*model\.ckpt-8"):
        keras_deeplab.load(tmp_path / "model.ckpt-8")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(ValueError, match="holds no checkpoint"):
        keras_deeplab.load(tmp_path / "a.tar.gz")
    (tmp_path / "model.ckpt-9.index").write_bytes(b"not an index at all")
    with pytest.raises(ValueError, match="can't be read as a TensorFlow checkpoint"):
        keras_deeplab.load(tmp_path / "model.ckpt-9")


@pytest.mark.slow
def test_a_loaded_model_computes_what_the_saved_one_did(trained, arrays, tmp_path):
    prefix = write(arrays, tmp_path / "checkpoint")
    model = keras_deeplab.load(pack(prefix.parent, tmp_path / "a.tar.gz"), output_stride=16)
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 50, 3)).astype("uint8")
    np.testing.assert_allclose(model(image), trained(image), atol=1e-6)


@pytest.mark.slow
def test_arrays_that_do_not_fit_are_all_listed(arrays):
    del arrays["MobilenetV2/expanded_conv_3/expand/weights"], arrays["aspp0/BatchNorm/gamma"]
    arrays["MobilenetV2/Conv_1/weights"] = np.zeros((1, 1, 2, 3), "float32")
    arrays["decoder/unheard_of"] = np.zeros(2, "float32")
    arrays["MobilenetV2/expanded_conv_4/project/weights"] = np.zeros((1, 1, 5, 16), "float32")
    arrays["MobilenetV2/expanded_conv_5/project/BatchNorm/beta"][3] = np.nan
    with pytest.raises(ValueError, match="the given mapping don't fit") as caught:
        keras_deeplab.load(arrays)
    message = str(caught.value)
    for line in [
        "Missing from the file (2):",
        "block_3_expand/kernel (1, 1, 12, 72)",
        "aspp0_BN/gamma (256,)",
        "Left over in the file (2):",
        "MobilenetV2/Conv_1/weights (1, 1, 2, 3)",
        "decoder/unheard_of (2,)",
        "Of another shape (1):",
        "block_4_project/kernel: (1, 1, 5, 16), the model has (1, 1, 96, 16)",
        "Holding values that are not finite (1):",
        "block_5_project_BN/beta",
    ]:
        assert line in message


@pytest.mark.slow
def test_nothing_is_assigned_unless_everything_fits(trained, arrays):
    model = keras.models.clone_model(trained)
    before = [variable.numpy() for variable in model.weights]
    plan = recognise(arrays)
    del arrays["logits/semantic/biases"]
    with pytest.raises(ValueError, match=r"logits/bias \(4,\), there 'logits/semantic/biases'"):
        plan.fill(model, arrays, "arrays")
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "its arrays are in nothing"),
        (["MobilenetV3/Conv/weights"], r"its arrays are in MobilenetV3\. Backbones that can, .*xception_41"),
        (["resnet_v1_101/conv1/weights"], "one 7x7 convolution as its stem, which is not the beta variant"),
        (["MobilenetV2/Conv/weights", "MobilenetV2/Conv_1/weights"], "has no 'logits/semantic/weights'"),
        (
            ["xception_65/entry_flow/conv1_1/weights", "logits/semantic/weights", "aspp1/weights", "aspp2/weights"],
            "has 2 atrous branches",
        ),
    ],
)
def test_checkpoints_of_other_networks_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        keras_deeplab.load({name: np.zeros((1, 1, 2, 3), "float32") for name in names})


def plan(**shapes):
    """The record for arrays of these shapes, with "__" for "/"."""
    base = {"xception_71/entry_flow/conv1_1/weights": (3, 3, 3, 32), "logits/semantic/weights": (1, 1, 128, 9)}
    shapes = {name.replace("__", "/"): shape for name, shape in shapes.items()}
    return tf1.recognise({**base, **shapes}, "it", {}).spec


def test_heads_are_recognised():
    bare = plan()
    assert (bare.backbone, bare.num_classes, bare.builder) == ("xception_71", 9, "DeepLabV3")
    assert bare.settings == {"atrous_rates": (), "separable": False, "image_pooling": False, "filters": 256}
    plain = plan(aspp0__weights=(1, 1, 2048, 128), **{f"aspp{i}__weights": (3, 3, 2048, 128) for i in (1, 2, 3)})
    assert plain.settings == {"atrous_rates": (6, 12, 18), "separable": False, "image_pooling": False, "filters": 128}
    full = plan(
        image_pooling__weights=(1, 1, 2048, 256),
        decoder__feature_projection0__weights=(1, 1, 256, 32),
        **{f"aspp{i}_depthwise__depthwise_weights": (3, 3, 2048, 1) for i in (1, 2, 3)},
    )
    assert full.builder == "DeepLabV3Plus"
    assert full.settings == {
        "atrous_rates": (6, 12, 18),
        "separable": True,
        "image_pooling": True,
        "filters": 256,
        "low_level_filters": 32,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "divisible_by"), [(0.5, 1), (0.5, 8), (0.35, 1), (0.35, 8), (1.4, 8), (0.75, 1)])
def test_the_width_of_mobilenet_v2_is_recognised(alpha, divisible_by):
    from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2

    backbone = mobilenet_v2(alpha=alpha, divisible_by=divisible_by)
    arrays = {google_name(variable.path): np.zeros(variable.shape) for variable in backbone.weights}
    arrays["logits/semantic/weights"] = np.zeros((1, 1, 256, 21))
    settings = recognise(arrays).spec.backbone_settings
    rebuilt = mobilenet_v2(**settings)
    assert [v.shape for v in rebuilt.weights] == [v.shape for v in backbone.weights]


@pytest.mark.parametrize("filters", [1300, 1 << 20])
def test_a_width_that_no_network_has_is_refused(filters):
    arrays = dict.fromkeys(("MobilenetV2/Conv/weights", "logits/semantic/weights"), np.zeros((1, 1, 4, 8)))
    arrays["MobilenetV2/expanded_conv_16/project/weights"] = np.zeros((1, 1, 1, filters))
    with pytest.raises(ValueError, match="times the 320 filters of width 1; widths go up to 4"):
        recognise(arrays)


@pytest.mark.slow
def test_a_plain_head_with_a_decoder_round_trips():
    """`--aspp_with_separable_conv=false --decoder_use_separable_conv=false`: no fixture has it."""
    model = randomise(keras_deeplab.DeepLabV3Plus("mobilenet_v2_dm05", separable=False, low_level_filters=16))
    arrays = {}
    for variable in model.weights:
        name = google_name(variable.path)
        if name.startswith("decoder_conv"):
            index = int(name[len("decoder_conv")])
            name = name.replace(f"decoder_conv{index}", f"decoder/decoder_conv0/decoder_conv0_{index + 1}")
        elif name.startswith("feature_projection0"):
            name = f"decoder/{name}"
        arrays[name] = variable.numpy()
    loaded = keras_deeplab.load(arrays)
    x = np.random.default_rng(0).integers(0, 256, (1, 65, 65, 3)).astype("float32")
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)


@pytest.mark.slow
def test_another_number_of_classes_keeps_everything_but_the_last_layer(trained, arrays):
    with pytest.warns(UserWarning, match=r"has 4 classes and 6 were asked for: the last layer \('logits'\)"):
        model = keras_deeplab.load(arrays, num_classes=6)
    assert model.output_shape[-1] == 6
    assert model.get_layer("logits").kernel.shape == (1, 1, 256, 6)
    kept = [(v, w) for v, w in zip(model.weights, trained.weights, strict=True) if not v.path.startswith("logits")]
    assert len(kept) == len(model.weights) - 2
    for variable, expected in kept:
        np.testing.assert_array_equal(variable.numpy(), expected.numpy())
    assert np.ptp(model.get_layer("logits").kernel.numpy()) > 0


def header(name, kind, size):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_of_an_archive_that_is_as_long_as_a_file_is_refused_unread(kind, tmp_path):
    """`tarfile` reads names and attributes of members at once, of however many bytes."""
    size = limits.TAR_HEADER_BYTES + 1
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header("x", kind, size) + bytes(2 << 20), 1))
    with pytest.raises(ValueError, match=r"a\.tar\.gz' is no archive .*: a header in it takes 1,049,\d+ bytes"):
        tf1.read(tmp_path / "a.tar.gz")


def test_a_chain_of_headers_in_an_archive_is_refused(tmp_path):
    """Each of them makes `tarfile` call itself."""
    attributes = b"12 path=ab\n\n".ljust(512, b"\0")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress((header("x", tarfile.XHDTYPE, 11) + attributes) * 3000))
    with pytest.raises(ValueError, match=r"a\.tar\.gz' is no archive that can be unpacked: "):
        tf1.read(tmp_path / "a.tar.gz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
@pytest.mark.parametrize("name", ["model.ckpt-7.index", "model.ckpt-7"])
def test_a_pipe_in_the_place_of_a_checkpoints_file_is_not_waited_for(name, tmp_path):
    prefix = write(FEW, tmp_path, version="V1" if name == "model.ckpt-7" else "V2")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is a named pipe \(FIFO\), and a regular file is expected"):
        keras_deeplab.load(prefix)


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ({"block_16_project/kernel": (1, 1, 960, 320), "Conv1/kernel": (3, 3, 3, 32)}, (1.0, 8)),
        ({"block_16_project/kernel": (1, 1, 960, 160), "Conv1/kernel": (3, 3, 3, 16)}, (0.5, 8)),
        ({"block_16_project/kernel": (1, 1, 960, 160), "Conv1/kernel": (3, 3, 3, 18)}, (0.5, 1)),
        (
            {"block_16_project/kernel": (1, 1, 9, 160), "x_project/kernel": (1, 1, 9, 12), "Conv1/kernel": (8,)},
            (0.5, 1),
        ),
    ],
)
def test_a_width_and_its_rounding_are_told_by_the_filters(paths, found):
    width = tf1.mobilenet_v2_width(paths)
    assert (width["alpha"], width["divisible_by"]) == found


def test_a_width_of_an_edgetpu_network_is_told_by_its_last_block():
    name = f"{tf1._LAST_BLOCK}/kernel"
    filters = tf1.TABLE[-1][3]
    assert tf1.mobilenet_edgetpu_width({}) == {"alpha": 1.0}
    assert tf1.mobilenet_edgetpu_width({name: (1, 1, 9, filters // 2)}) == {"alpha": 0.5, "last_filters": 1280}
    assert tf1.mobilenet_edgetpu_width({"Conv_1/kernel": (1, 1, 9, 256)}) == {"alpha": 1.0, "last_filters": 256}
    with pytest.raises(ValueError, match="has 50 times the"):
        tf1.mobilenet_edgetpu_width({name: (1, 1, 9, 50 * filters)})
