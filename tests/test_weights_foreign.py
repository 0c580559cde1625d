"""Checkpoints of other networks, and of trainings: what they are, why they don't load, and what would."""

import keras
import numpy as np
import pytest
from randomise import randomise
from weight_files import pickled, safetensors, tensors, torch_zip

import keras_deeplab
from keras_deeplab.cli import main
from keras_deeplab.export import weights as export
from keras_deeplab.loading import refusal
from keras_deeplab.weights import opened
from keras_deeplab.weights.beside import split
from keras_deeplab.weights.describe import describe
from keras_deeplab.weights.foreign import ROWS, seems


def zeros(**shapes):
    return {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}


def resnet(scope, gates=""):
    """The names of a ResNet of bottlenecks, one unit a stage."""
    found = {f"{scope}conv1.weight": (64, 3, 7, 7), f"{scope}bn1.running_mean": (64,)}
    for stage in range(1, 5):
        unit = f"{scope}layer{stage}.0."
        found[f"{unit}conv1.weight"], found[f"{unit}conv2.weight"] = (64, 64, 1, 1), (64, 64, 3, 3)
        if gates:
            found[f"{unit}{gates}"] = (4, 64, 1, 1)
    return found


# what it is -> names and shapes of a few of its arrays
FOREIGN = {
    "torchvision's FCN": {
        **resnet("backbone."),
        "classifier.0.weight": (512, 2048, 3, 3),
        "classifier.4.weight": (21, 512, 1, 1),
    },
    "SegFormer (transformers)": {
        "segformer.encoder.patch_embeddings.0.proj.weight": (32, 3, 7, 7),
        "decode_head.linear_c.0.proj.weight": (256, 32),
        "decode_head.classifier.weight": (150, 256, 1, 1),
    },
    "SegFormer (mmsegmentation)": {
        "backbone.layers.0.1.0.attn.attn.in_proj_weight": (96, 32),
        "decode_head.conv_seg.weight": (150, 256, 1, 1),
    },
    "a U-Net": {
        "inc.double_conv.0.weight": (64, 3, 3, 3),
        "down1.maxpool_conv.1.double_conv.0.weight": (128, 64, 3, 3),
        "up1.conv.double_conv.0.weight": (512, 1024, 3, 3),
        "outc.conv.weight": (2, 64, 1, 1),
    },
    "segmentation_models.pytorch with a decoder of another network": {
        **resnet("encoder."),
        "decoder.p5.weight": (256, 2048, 1, 1),
        "segmentation_head.0.weight": (3, 128, 1, 1),
    },
    "mmsegmentation with a head of another network": {
        **resnet("backbone."),
        "decode_head.psp_modules.0.1.conv.weight": (512, 2048, 1, 1),
        "decode_head.conv_seg.weight": (19, 512, 1, 1),
    },
    "Ultralytics's YOLO": {
        "model.0.conv.weight": (16, 3, 3, 3),
        "model.1.conv.weight": (32, 16, 3, 3),
        "model.2.cv1.conv.weight": (32, 32, 1, 1),
        "model.22.dfl.conv.weight": (1, 16, 1, 1),
    },
    "MaskFormer, Mask2Former or OneFormer": {
        "model.transformer_module.queries_features.weight": (100, 256),
        "class_predictor.weight": (134, 256),
    },
    "Segment Anything": {
        "image_encoder.patch_embed.proj.weight": (768, 3, 16, 16),
        "prompt_encoder.no_mask_embed.weight": (1, 256),
        "mask_decoder.iou_token.weight": (1, 256),
    },
    "a vision transformer": {
        "patch_embed.proj.weight": (768, 3, 16, 16),
        "blocks.0.attn.qkv.weight": (2304, 768),
        "head.weight": (1000, 768),
    },
    "a classifier of ImageNet's kind": {**resnet(""), "fc.weight": (1000, 2048)},
    "an optimizer's state": {"state.0.exp_avg": (3, 3), "state.0.exp_avg_sq": (3, 3), "param_groups.0.lr": (1,)},
    "adapters (LoRA)": {"base.layer.lora_A.weight": (4, 64), "base.layer.lora_B.weight": (64, 4)},
    "a language model": {
        "model.embed_tokens.weight": (100, 64),
        "model.layers.0.self_attn.q_proj.weight": (64, 64),
    },
    "a detector": {"backbone.body.conv1.weight": (64, 3, 7, 7), "roi_heads.box_predictor.cls_score.weight": (91, 8)},
}


def said(path, **settings):
    """(what `load` says of a file, what `inspect` prints of it), both on one line."""
    with pytest.raises(ValueError, match=r"other|se|training") as caught:
        keras_deeplab.load(path, **settings)
    return " ".join(str(caught.value).split()), " ".join(describe(path, refusal=refusal, **settings).split())


@pytest.mark.parametrize("what", FOREIGN)
def test_inspect_and_load_say_what_another_network_is(what, tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors({name: np.zeros(shape, np.float32) for name, shape in FOREIGN[what].items()}))
    loads, prints = said(path)
    assert f"It seems to be {what}" in loads
    assert loads in prints
    assert "What can: checkpoints of" in loads


def test_every_row_has_marks_that_no_deeplab_has_and_a_way_out():
    model = keras_deeplab.DeepLabV3("resnet18", num_classes=2, filters=8, flavour="torchvision")
    assert seems(export.state_dict(model, "torchvision")) is None
    for row in ROWS:
        assert row.marks
        assert not row.why.endswith(".")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x08\x01\x12\xf2\x03\n\x10\x1a\x05serve", "a SavedModel's graph, which keras_deeplab.predictor runs"),
        (b"\x93NUMPY\x01\0", "a NumPy array without a name"),
        (b"GIF89a" * 9, r"a \.bin file that begins with"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_files_of_other_kinds_are_named_alike(content, message, tmp_path):
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    for refused in (keras_deeplab.load, lambda path: describe(path, refusal=refusal)):
        with pytest.raises(ValueError, match=message):
            refused(path)


def test_a_numpy_archive_is_asked_for_as_a_mapping(tmp_path):
    np.savez(tmp_path / "random.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"a NumPy archive; give load\(\) its arrays"):
        keras_deeplab.load(tmp_path / "random.npz")
    with pytest.raises(ValueError, match=r"holds no DeepLab that can be rebuilt: its arrays are in a\. What can:"):
        keras_deeplab.load(dict(np.load(tmp_path / "random.npz")))


# Trainings ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state():
    keras.utils.set_random_seed(0)
    settings = {"num_classes": 3, "output_stride": 8, "filters": 8, "flavour": "torchvision"}
    return export.state_dict(randomise(keras_deeplab.DeepLabV3("resnet18", **settings)), "torchvision")


def under(prefix, arrays, factor=1):
    return {f"{prefix}{name}": np.asarray(array) * np.asarray(factor, array.dtype) for name, array in arrays.items()}


def kernel(model):
    return model.get_layer("logits").kernel.numpy()


def test_arrays_beyond_a_network_s_own_are_told_as_what_they_are(state, tmp_path):
    # A ResNet with gates has all names of one without.
    gated = {name: np.float32(array) for name, array in state.items()}
    for stage in range(1, 5):
        for unit in range(2):
            gated[f"backbone.layer{stage}.{unit}.se.fc1.weight"] = np.zeros((4, 64 << (stage - 1), 1, 1), np.float32)
    path = tmp_path / "se.safetensors"
    path.write_bytes(safetensors(gated))
    loads, prints = said(path)
    assert "can't be loaded. It seems to be a DeepLab on a ResNet with squeeze and excitation (SE-ResNet)" in loads
    assert "Left over in the file (8): backbone.layer1.0.se.fc1.weight" in loads
    assert loads in prints


def test_what_a_training_saved_beside_a_network_is_left_out_and_told(state, tmp_path, capsys):
    beside = {
        "criterion.weight": np.ones(3, np.float32),
        "val_metrics.confmat": np.ones((3, 3), np.float32),
        "mean": np.float32([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1),
        "std": np.float32([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1),
    }
    told = r"left out as no part of the network: criterion.weight \(a loss's\), .*confmat \(a metric's\), mean \(a norm"
    with pytest.warns(UserWarning, match=told):
        loaded = keras_deeplab.load({**beside, **under("model.", state)})
    np.testing.assert_array_equal(kernel(loaded), kernel(keras_deeplab.load(state)))
    path = tmp_path / "training.pth"
    values, storages = tensors({**beside, **under("model.", state)})
    path.write_bytes(torch_zip(pickled(values), storages))
    assert main(["inspect", str(path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "left out criterion.weight (a loss's)" in printed
    assert "does not load" not in printed


@pytest.mark.parametrize("scale", [1, 255])
def test_another_normalisation_than_the_source_s_is_asked_about(scale, state):
    means, deviations = [0.4, 0.5, 0.6], [0.2, 0.2, 0.25]
    theirs = {
        "pixel_mean": np.float32(means).reshape(3, 1, 1) * scale,
        "pixel_std": np.float32(deviations).reshape(3, 1, 1) * scale,
        **under("net.", state),
    }
    told = r"means 0\.4, 0\.5, 0\.6 and deviations 0\.2, 0\.2, 0\.25, .* to take torch, .*=\(\(0\.4, 0\.5, 0\.6\), \(0"
    with pytest.raises(ValueError, match=told):
        keras_deeplab.load(theirs)
    with pytest.warns(UserWarning, match="left out"):
        loaded = keras_deeplab.load(theirs, include_preprocessing=(means, deviations))
    assert loaded.spec.preprocessing == (tuple(means), tuple(deviations))
    assert split(theirs)[1].normalisation == (tuple(means), tuple(deviations))


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
def test_two_networks_in_a_file_are_asked_about(nested, state, tmp_path):
    averaged = under("", state, 2)
    arrays = {**under("model.", state), **under("ema_model.module.", averaged)}
    if nested:  # as training scripts save them
        arrays = {"epoch": 3, "model": state, "ema_model": under("module.", averaged), "optimizer": {"state": {}}}
    scope = "ema_model." if nested else "ema_model.module."
    told = rf"holds 2 networks, .* prefix='model\.' or prefix='{scope}'.*--prefix"
    with pytest.raises(ValueError, match=told):
        keras_deeplab.load(arrays)
    plain, average = (keras_deeplab.load(arrays, prefix=prefix) for prefix in ("model", "ema_model."))
    np.testing.assert_array_equal(kernel(average), 2 * kernel(plain))
    with pytest.raises(ValueError, match=r"no network whose names begin with 'teacher': give prefix='model\.' or"):
        keras_deeplab.load(arrays, prefix="teacher")
    path = tmp_path / "training.safetensors"
    flat = {**under("model.", state), **under("ema_model.", averaged)}
    path.write_bytes(safetensors({name: np.float32(array) for name, array in flat.items()}))
    loads, prints = said(path)
    assert loads in prints
    assert main(["convert", str(path), str(tmp_path / "x.keras"), "--prefix", "ema_model"]) == 0
    np.testing.assert_array_equal(kernel(keras_deeplab.load(tmp_path / "x.keras")), kernel(average))


def test_a_network_with_a_copy_behind_a_prefix_and_one_with_strangers_are_asked_about(state):
    arrays = {**state, **under("ema.", state, 2)}
    with pytest.raises(ValueError, match=r"holds 2 networks, .* prefix='' or prefix='ema\.'"):
        keras_deeplab.load(arrays)
    np.testing.assert_array_equal(kernel(keras_deeplab.load(arrays, prefix="ema")), 2 * state_kernel(state))
    np.testing.assert_array_equal(kernel(keras_deeplab.load(arrays, prefix="")), state_kernel(state))
    strangers = {**under("model.", state), "teacher.conv.weight": np.zeros((3, 3), np.float32)}
    with pytest.raises(ValueError, match=r"begin with 'model\.', and arrays of teacher, .* prefix='model\.'"):
        keras_deeplab.load(strangers)
    np.testing.assert_array_equal(kernel(keras_deeplab.load(strangers, prefix="model.")), state_kernel(state))


def state_kernel(state):
    return state["classifier.4.weight"].transpose(2, 3, 1, 0)


def test_a_file_of_keras_has_one_network(tmp_path):
    model = keras_deeplab.DeepLabV3("resnet18", num_classes=2, filters=8)
    model.save(tmp_path / "one.keras")
    with pytest.raises(ValueError, match="holds one network: leave prefix= out"):
        keras_deeplab.load(tmp_path / "one.keras", prefix="model.")
    with opened(tmp_path / "one.keras") as stored:
        assert refusal(stored) is None


def test_a_pyramid_of_poolings_is_told_to_be_a_pspnet():
    found = seems(["ppm.features.0.1.weight", "layer4.0.conv1.weight"])
    assert found.what == "PSPNet"
    assert found.why.startswith("it pools at four sizes")


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_what_it_is_is_told_shortly_and_then_why_it_is_not_read(row):
    assert len(row.what) <= len(row.why)
