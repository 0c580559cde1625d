"""Models of others that reach files, the network or Python are refused, unless they are trusted."""

import re

import keras
import pytest
import tensorflow as tf
from export_models import photograph
from tensorflow.python.framework import op_def_registry

from keras_deeplab import predictor
from keras_deeplab.cli import main
from keras_deeplab.inference.runtimes.operators import is_outside, outside_of_saved_model

# What arguments of operators are called that name a file, a folder, an address, or something to write to.
_PLACE = re.compile(r"file|path|(^|_|log)dir($|s$)|directory|address|url|prefix|writer$|memory_region|target$")
# Numbers and classes that are called so.
_INSIDE = {"CTCBeamSearchDecoder", "InTopK", "InTopKV2", "ApproxTopK"}


def written(folder, name="out.txt", **more):
    """A SavedModel whose signature writes a file, in the body of a loop in a function that it calls."""
    target = str(folder / name)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")])
    def serve(images):
        @tf.function
        def inner(values):
            for _ in tf.range(tf.shape(values)[0]):
                tf.io.write_file(target, "written")
            return values

        return {"logits": inner(tf.cast(images, tf.float32))}

    module = tf.Module()
    tf.saved_model.save(module, str(folder / "model"), {"serving_default": serve, **more})
    return folder / "model"


@pytest.mark.slow
def test_a_saved_model_that_writes_files_is_refused_and_runs_where_it_is_trusted(tmp_path, capsys):
    path = written(tmp_path)
    with pytest.raises(ValueError, match=r"the SavedModel .*model holds operators .*: WriteFile\. .*safe_mode=False"):
        predictor(path)
    image = photograph(9, 9)
    assert keras.ops.shape(predictor(path, safe_mode=False)(image)) == (9, 9)
    assert (tmp_path / "out.txt").read_text() == "written"
    (tmp_path / "image.png").write_bytes(tf.io.encode_png(image).numpy())
    command = ["predict", str(path), str(tmp_path / "image.png"), "--output-dir", str(tmp_path / "out")]
    assert main(command) != 0
    assert "--no-safe-mode" in capsys.readouterr().err
    assert main([*command, "--no-safe-mode"]) == 0


@pytest.mark.slow
def test_what_runs_when_a_saved_model_is_loaded_counts_and_what_only_saves_does_not(tmp_path):
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs)).export(tmp_path / "plain", verbose=False)
    v1 = tf.compat.v1
    for name in ("v1", "evil"):
        with tf.Graph().as_default(), v1.Session() as session:
            images = v1.placeholder(tf.float32, (1, None, None, 3), "images")
            kernel = v1.get_variable("kernel", (1, 1, 3, 4))
            scores = tf.nn.conv2d(images, kernel, 1, "SAME")
            session.run(v1.global_variables_initializer())
            start = tf.io.write_file(str(tmp_path / "out.txt"), "x") if name == "evil" else tf.no_op()
            builder = v1.saved_model.Builder(str(tmp_path / name))
            signature = v1.saved_model.predict_signature_def({"images": images}, {"logits": scores})
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=start)
            builder.save()
    for name, expected in (("plain", set()), ("v1", set()), ("evil", {"WriteFile"})):
        assert outside_of_saved_model((tmp_path / name / "saved_model.pb").read_bytes()) == expected
    predictor(tmp_path / "v1")
    with pytest.raises(ValueError, match="WriteFile"):
        predictor(tmp_path / "evil")
    assert not (tmp_path / "out.txt").exists()
    (tmp_path / "plain" / "saved_model.pb").write_bytes(b"\xff" * 99)
    with pytest.raises(ValueError, match=r"the SavedModel .*plain can't be read: it is no SavedModel, or a dam"):
        predictor(tmp_path / "plain")


def test_every_operator_that_names_a_place_is_one_that_reaches_beyond():
    missed = []
    names = [name for name in dir(tf.raw_ops) if not name.startswith("_")]
    definitions = {name: op_def_registry.get(name) for name in names}
    for name, definition in definitions.items():
        if definition is None:
            continue
        places = [entry.name for entry in (*definition.input_arg, *definition.attr) if _PLACE.search(entry.name)]
        if places and not is_outside(name) and name not in _INSIDE:
            missed.append((name, places))
    assert missed == []
    assert len(definitions) > 1000
    usual = (
        "Conv2D DepthwiseConv2dNative ReadVariableOp VarHandleOp ResizeBilinear ArgMax DecodeImage StatelessWhile Print"
    )
    usual += " PartitionedCall EncodePng Assert MutableHashTableV2 LookupTableFindV2 TensorArrayReadV3 FusedBatchNormV3"
    wrong = [name for name in usual.split() if is_outside(name)]
    assert wrong == []


@pytest.mark.slow
def test_operators_of_tensorflow_in_a_tflite_file_are_refused(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32)])
    def harmless(images):
        return tf.math.tan(images)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([harmless.get_concrete_function()], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    content = converter.convert()
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.tflite can't be run: It has .* not TFLite's own: FlexTan\."):
        predictor(path)
    path.write_bytes(content.replace(b"FlexTan", b"FlexRpc"))
    with pytest.raises(ValueError, match=r"model\.tflite holds operators that reach beyond it, .*: Rpc\."):
        predictor(path)
    with pytest.raises(ValueError, match=r"model\.tflite can't be run: It has .*: FlexRpc\."):
        predictor(path, safe_mode=False)
