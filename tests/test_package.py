"""The package as a whole: light import, public names, the direction of imports, registration with Keras."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import keras_deeplab

PACKAGE = Path(keras_deeplab.__file__).parent
# Each module may import from its own layer and those before it.
LAYERS = [
    {"_helpers", "_version", "options", "registry", "specs", "metadata"},
    {"layers", "metrics"},
    {"rewrite", "blocks"},
    {"backbones", "heads", "data"},
    {"networks", "serving"},
    {"published"},
    {"weights"},
    {"models"},
    {"loading", "summary"},
    {"inference", "quantize", "pruning"},
    {"reports"},
    {"export", "demo", "hubs"},
    {"training"},
    {"quickstart"},
    {"cli"},
]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def home(module):
    """The part of the package that `keras_deeplab.weights.tf1` belongs to: `weights`."""
    return module.split(".")[1] if "." in module else None


def imported_parts(path):
    """Parts of the package that a file imports at any depth of its code, and where."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("keras_deeplab"):
            if node.module == "keras_deeplab":
                yield from ((alias.name, node.lineno) for alias in node.names)
            else:
                yield home(node.module), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("keras_deeplab."):
                    yield home(alias.name), node.lineno


def test_imports_point_one_way():
    rank = {part: index for index, layer in enumerate(LAYERS) for part in layer}
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert parts - {"__init__"} == set(rank)
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        part = path.stem if path.parent == PACKAGE else path.relative_to(PACKAGE).parts[0]
        if part == "__init__":
            continue
        wrong += [
            f"{path.relative_to(PACKAGE)}:{line} imports {other}"
            for other, line in imported_parts(path)
            if other in rank and rank[other] > rank[part]
        ]
    assert wrong == []


def modules():
    """{name of a module: its file}."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(files):
    """{module: the modules that it imports, at any depth of its code}.

    Whoever imports a module of another folder runs that folder's `__init__` as well.
    """
    edges = {}
    for name, path in files.items():
        told = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                told |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                told |= named if named <= files.keys() else {node.module, *named}
        folders = {parent for other in told for parent in parents(other)} - {*parents(name), name}
        edges[name] = ((told | folders) & files.keys()) - {name}
    return edges


def parents(name):
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def circles(edges):
    """Sets of modules each of which leads to each other."""

    def reached(start):
        seen, ahead = set(), [start]
        while ahead:
            for other in edges[ahead.pop()] - seen:
                seen.add(other)
                ahead.append(other)
        return seen

    ahead = {name: reached(name) for name in edges}
    inside = [name for name in edges if name in ahead[name]]
    return {
        tuple(sorted(other for other in inside if other in ahead[name] and name in ahead[other])) for name in inside
    }


def test_no_file_imports_itself_through_others():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {("b", "c")}
    assert circles(imports(modules())) == set()


def test_weights_build_no_network():
    """A source gives a record and arrays."""
    for path in (PACKAGE / "weights").rglob("*.py"):
        assert not {"models", "loading"} & {part for part, _ in imported_parts(path)}, path.name


def test_models_know_no_data():
    rooms = [path for room in ("models", "heads", "layers") for path in (PACKAGE / room).glob("*.py")]
    for path in (*rooms, PACKAGE / "blocks.py", PACKAGE / "rewrite.py"):
        assert "data" not in {part for part, _ in imported_parts(path)}


def public_functions(node, prefix=""):
    """(name, definition) of the public functions and methods in a module or a class, `__init__` and `__call__` too."""
    for each in node.body:
        if isinstance(each, ast.ClassDef) and not each.name.startswith("_"):
            yield from public_functions(each, f"{prefix}{each.name}.")
        elif isinstance(each, ast.FunctionDef) and (
            not each.name.startswith("_") or (prefix and each.name in ("__init__", "__call__"))
        ):
            yield prefix + each.name, each


def untyped(function, is_method):
    """The arguments of a function that have no type, and "return" where its result has none."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    bound = is_method and not any(getattr(each, "id", "") == "staticmethod" for each in function.decorator_list)
    found = [each.arg for each in arguments[bound:] if each is not None and each.annotation is None]
    return found + ["return"] * (function.returns is None)


def test_everything_public_has_types():
    files = sorted(Path(keras_deeplab.__file__).parent.rglob("*.py"))
    functions = [
        (path.name, name, untyped(function, "." in name))
        for path in files
        for name, function in public_functions(ast.parse(path.read_text("utf-8")))
    ]
    assert len(functions) > 1000
    assert [each for each in functions if each[2]] == []


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, keras_deeplab, keras_deeplab.cli\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'cv2', 'tensorflow_datasets'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", keras_deeplab.__all__)
def test_every_public_name_is_there(name):
    value = getattr(keras_deeplab, name)
    assert callable(value) or name in ("__version__", "BACKBONES", "FLAVOURS", "MODELS")


@pytest.mark.slow
def test_parts_are_attributes_of_the_package_and_what_is_none_is_refused():
    code = (
        "import keras_deeplab as k, sys\n"
        "assert not hasattr(k, 'absent') and 'keras' not in sys.modules\n"
        "print(k.layers.ResizeBilinear.__name__, k.metrics.MeanIoU.__name__, k.training.losses.__name__)"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["ResizeBilinear", "MeanIoU", "keras_deeplab.training.losses"]


def test_an_unknown_name_lists_the_known():
    with pytest.raises(AttributeError, match="DeepLabV3Plus"):
        _ = keras_deeplab.DeepLabV9


@pytest.mark.slow
@pytest.mark.parametrize("first", ["FLAVOURS", "spec_of", "layers.convention"])
def test_a_name_whose_module_is_the_first_to_import_keras_is_there_and_classes_are_registered(first):
    """Keras's import brings modules that register classes, which may need the one that is being imported."""
    module, _, name = first.rpartition(".")
    code = (
        f"from keras_deeplab{'.' * bool(module)}{module} import {name}\n"
        "import keras\n"
        "print(keras.saving.get_registered_object('keras_deeplab>SegmentationModel').__name__)"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["SegmentationModel"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import keras_deeplab, keras",
        "import keras, keras_deeplab",
        "import keras_deeplab, tensorflow as tf; keras = tf.keras",
    ],
)
def test_saved_models_reload_without_custom_objects(imports, saved_model_file):
    code = f"{imports}\nmodel = keras.models.load_model({str(saved_model_file)!r})\nprint(model.count_params())"
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 0


@pytest.fixture(scope="module")
def saved_model_file(tmp_path_factory):
    import keras

    path = tmp_path_factory.mktemp("saved") / "model.keras"
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same")(inputs)
    x = keras.layers.Conv2D(4, 3, 2, padding="same")(x)
    x = keras.layers.SeparableConv2D(4, 3, 2, padding="same")(x)
    x = keras.layers.AveragePooling2D(2)(x)
    classifier = keras.Model(inputs, keras.layers.Conv2D(4, 3, padding="same")(x))
    model = keras_deeplab.DeepLabV3Plus(classifier, output_stride=8, filters=4, num_classes=2)
    model.compile(
        keras.optimizers.SGD(keras_deeplab.training.schedules.Poly(0.1, 10)),
        keras_deeplab.training.losses.SparseCategoricalCrossentropy(),
    )
    model.save(path)
    return path
