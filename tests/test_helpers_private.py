"""What Keras and TensorFlow keep private stands in one file, and a test for each name says which version broke it."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deeplab
from keras_deeplab._helpers import private
from keras_deeplab.inference.runtimes.tflite import interpreter

PACKAGE = Path(keras_deeplab.__file__).parent


def network():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2, name="second")(keras.layers.Dense(3, name="first")(inputs)))


def tflite():
    return tf.lite.TFLiteConverter.from_keras_model(network()).convert()


def check_producer():
    assert private.producer(network().outputs[0]).name == "second"


def check_calls():
    layer = keras.layers.Dense(4)
    tensors = [keras.Input((4,)), keras.Input((4,))]
    results = [layer(tensor) for tensor in tensors]
    for call, tensor, result in zip(private.calls(layer), tensors, results, strict=True):
        assert call.input_tensors[0] is tensor
        assert call.outputs[0] is result
        assert call.output_tensors[0] is result


def check_run_through_graph():
    names = []

    def operation(layer):
        return lambda value: names.append(layer.name) or value + 1

    assert private.run_through_graph(network(), [5], operation) == 7
    assert names == ["first", "second"]


def check_is_channel_flip():
    images = keras.Input((4, 4, 3))
    flips = [keras.ops.flip(images, axis) for axis in (-1, 3, 1, (1, 3))]
    flips += [keras.ops.flip(images[:, 0], -1), keras.layers.Rescaling(1.0)(images)]
    told = [private.is_channel_flip(private.producer(tensor)) for tensor in flips]
    assert told == [True, True, False, False, False, False]


def check_rename():
    variable = network().weights[0]
    private.rename(variable, "kernel", "other/kernel")
    assert (variable.name, variable.path) == ("kernel", "other/kernel")


def trained(**options):
    """A network and an optimizer that took one step of it."""
    model, optimizer = network(), keras.optimizers.SGD(0.5, **options)
    optimizer.build(model.trainable_variables)
    optimizer.apply([np.ones(variable.shape, "float32") for variable in model.trainable_variables])
    return model, optimizer


def check_on_several_hosts():
    plain = network()
    model = private.on_several_hosts(keras.Model)(plain.input, plain.output)
    model.compile("sgd", "mse")
    logs = model.train_step((np.ones((3, 4), "float32"), np.ones((3, 2), "float32")))
    assert {name: value.shape for name, value in logs.items()} == {"loss": (1,)}
    # What it leaves out is still what Keras calls before the first step.
    assert callable(keras.Model._maybe_symbolic_build)


def check_variable_index():
    model, optimizer = trained()
    variables = model.trainable_variables
    assert [private.variable_index(optimizer, variable) for variable in variables] == list(range(len(variables)))
    assert private.variable_index(optimizer, variables[1].value) == 1  # as TensorFlow's `update_step` gets it


def check_averages_of():
    model, optimizer = trained(use_ema=True, ema_momentum=0.5)
    for variable, average in zip(model.trainable_variables, private.averages_of(optimizer), strict=True):
        np.testing.assert_allclose(average.numpy(), variable.numpy())  # of one step it is that


def check_schedule_of():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert private.schedule_of(keras.optimizers.SGD(schedule)) is schedule
    assert float(private.schedule_of(keras.optimizers.SGD(0.25))) == 0.25


def check_copy_weight_decay_exclusions():
    steps = []
    for copied in (True, False):
        keras.utils.set_random_seed(0)
        model, given, other = network(), keras.optimizers.AdamW(0.1), keras.optimizers.AdamW(0.1, weight_decay=0.5)
        given.exclude_from_weight_decay(var_names=["kernel"])
        if copied:
            private.copy_weight_decay_exclusions(given, other)
        before = model.layers[1].kernel.numpy()
        other.build(model.trainable_variables)
        other.apply([np.zeros(variable.shape, "float32") for variable in model.trainable_variables])
        steps.append(np.abs(model.layers[1].kernel.numpy() - before).max())
    assert steps[0] == 0 < steps[1]


def check_global_state():
    from keras_deeplab._helpers.unallocated import unallocated

    before = list(private.global_state.get_global_attribute("uninitialized_variables", []))
    with keras.StatelessScope(initialize_variables=False):
        late = keras.layers.Dense(2)
        late.build((None, 3))
    listed = private.global_state.get_global_attribute("uninitialized_variables")
    known = {id(variable) for variable in before}  # compared by what they are, not by their values
    assert [id(variable) for variable in listed if id(variable) not in known] == [id(each) for each in late.weights]
    private.global_state.set_global_attribute("uninitialized_variables", list(before))
    with unallocated():
        network()
    assert private.global_state.get_global_attribute("uninitialized_variables") == before


def check_AutocastScope():
    seen = {}

    class Reads(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(1,), initializer="ones")

        def call(self, inputs):
            seen["cast"] = keras.ops.convert_to_tensor(self.scale).dtype
            with private.AutocastScope(None):
                seen["stored"] = keras.ops.convert_to_tensor(self.scale).dtype
            return inputs

    Reads(dtype="mixed_float16")(keras.ops.ones((1, 1)))
    assert seen == {"cast": tf.float16, "stored": tf.float32}


def check_schema():
    file = private.schema.ModelT.InitFromPackedBuf(bytearray(tflite()), 0)
    assert file.subgraphs[0].operators
    assert private.schema.BuiltinOperator.CONV_2D == 3


def check_convert_variables_to_constants_v2():
    variable = tf.Variable(3.0)
    traced = tf.function(lambda x: x * variable).get_concrete_function(tf.TensorSpec((), tf.float32))
    constant = private.convert_variables_to_constants_v2(traced, lower_control_flow=False)
    assert float(constant(tf.constant(2.0))[0]) == 6
    assert constant.variables == ()


def check_operators_of():
    run = interpreter(None, 1, content=tflite())
    operators = private.operators_of(run)
    assert [one["op_name"] for one in operators if one["op_name"] != "DELEGATE"] == ["FULLY_CONNECTED"] * 2
    assert len(operators[0]["inputs"]) == 3


def check_tensor_of():
    run = interpreter(None, 1, content=tflite())
    index = private.operators_of(run)[0]["outputs"][0]
    entry = private.tensor_of(run, index)
    assert entry["index"] == index
    assert entry["dtype"] == np.float32


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
OF_TENSORFLOW = {"schema", "convert_variables_to_constants_v2", "operators_of", "tensor_of"}


@pytest.mark.parametrize("name", CHECKS)
def test_a_private_name_is_still_what_it_was(name):
    try:
        CHECKS[name]()
    except Exception as error:
        package = tf if name in OF_TENSORFLOW else keras
        pytest.fail(f"{package.__name__} {package.__version__} broke private.{name}: {type(error).__name__}: {error}")


def test_every_private_name_has_its_check():
    defined = {node.name for node in ast.parse(Path(private.__file__).read_text("utf-8")).body if hasattr(node, "name")}
    assert set(CHECKS) == (defined - {"__getattr__"}) | set(private._HOMES)


def test_a_name_that_is_gone_is_told_with_the_version(monkeypatch):
    monkeypatch.setitem(private._HOMES, "schema", ("tensorflow.lite.python", "gone"))
    with pytest.raises(ImportError, match=rf"tensorflow {tf.__version__} has no tensorflow\.lite\.python\.gone, which"):
        _ = private.schema
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = private.other


@pytest.mark.slow
def test_no_other_file_of_the_package_uses_private_names():
    trees = {path: ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
    own = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
                own.add(node.attr)
    found = []
    for path, tree in trees.items():
        if path == Path(private.__file__):
            continue
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute):
                private_name = node.attr.startswith("_") and not node.attr.startswith("__")
                # Its name begins so though it is documented.
                documented = ast.unparse(node) == "os._exit"
                if private_name and not documented and node.attr not in own and not is_own(node.value):
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node)}")
                modules = [ast.unparse(node)]
            found += [
                f"{path.relative_to(PACKAGE)}:{node.lineno} {module}"
                for module in modules
                if module.startswith(("keras.src.", "tensorflow.python.", "tensorflow.lite.", "tf.python."))
            ]
    assert found == []


def is_own(node):
    """Whether a value is `self`, `cls` or `super()`; or Python's `sys`, whose `_getframe` is documented."""
    return (isinstance(node, ast.Name) and node.id in ("self", "cls", "sys")) or (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )
