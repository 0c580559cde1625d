"""The page that segments in the browser: what is written and refused, how it is served, what Chromium shows."""

import base64
import configparser
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import stat
import subprocess
import threading
import urllib.parse
from pathlib import Path

import chromium
import flatbuffers
import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab._helpers.private import schema
from keras_deeplab.cli import main
from keras_deeplab.data.masks import decode_label_png, voc_palette
from keras_deeplab.demo import page, runtime
from keras_deeplab.demo.server import make_server
from keras_deeplab.inference.files import encode_png
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.metadata import tflite as _tflite_metadata
from keras_deeplab.specs import Classes, FileSpec, ModelSpec

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
INDEX = b'// core\nimport { createWasmLib } from "@litertjs/wasm-utils";\n'


# TFLite files and runtimes to test with -----------------------------------------------------------------------


@pytest.fixture
def graph_file(tmp_path):
    """Writes a TFLite file of one ARG_MAX between an input and an output of any shape and type."""

    def write(source=("FLOAT32", (1, 33, 49, 3)), target=("UINT8", (1, 33, 49)), classes=6, name="net.tflite"):
        tensors = []
        for kind, shape in (source, target, ("FLOAT32", (*target[1][:3], classes))):
            tensor = schema.TensorT()
            tensor.name, tensor.type = f"t{len(tensors)}", getattr(schema.TensorType, kind)
            tensor.shape = [max(1, side) for side in shape]
            tensor.shapeSignature = list(shape)
            tensors.append(tensor)
        step = schema.OperatorT()
        step.inputs, step.outputs = [2], [1]
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ARG_MAX
        graph = schema.SubGraphT()
        graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [1], [step]
        model = schema.ModelT()
        model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), b"TFL3")
        path = tmp_path / name
        path.write_bytes(bytes(builder.Output()))
        return path

    return write


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A small node_modules whose checksums are the expected ones."""
    folder = tmp_path / "node_modules"
    expected = {}
    for name, (path, _) in runtime.FILES.items():
        data = INDEX if name == "index.js" else f"contents of {name}".encode()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        expected[name] = (path, hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(runtime, "FILES", expected)
    return folder


# The folder ---------------------------------------------------------------------------------------------------


def test_the_page_holds_the_model_the_runtime_and_what_the_legend_needs(graph_file, modules, tmp_path):
    model = graph_file()
    classes = ["background", "disc", "square", "triangle", "star", "Möbius ring"]
    folder = page.write_page(model, tmp_path / "site", classes=classes, input_range=(-1, 1), runtime=modules)
    settings = json.loads((folder / "demo.json").read_text("utf-8"))
    assert settings["classes"] == classes
    assert settings["untinted"] == [0]
    assert settings["inputRange"] == [-1, 1]
    assert settings["name"] == "net"
    np.testing.assert_array_equal(settings["palette"], voc_palette())
    assert (folder / settings["model"]).read_bytes() == model.read_bytes()
    assert {path.name for path in (folder / "runtime").iterdir()} == {*runtime.FILES, "LICENSE.txt", "NOTICE.txt"}
    assert "Apache License" in (folder / "runtime" / "LICENSE.txt").read_text("utf-8")


def with_record(file, spec):
    """A TFLite file with a record behind it."""
    file.write_bytes(file.read_bytes() + _tflite_metadata.write("net", spec)[1])
    return file


def settings_of(file, modules, tmp_path):
    folder = page.write_page(file, tmp_path / "site", runtime=modules)
    return json.loads((folder / "demo.json").read_text("utf-8"))


def test_the_record_tells_how_scores_become_labels(graph_file, modules, tmp_path):
    coarse = ("FLOAT32", (1, 9, 13, 1))
    binary = ModelSpec(1, classes=Classes(("ground", "crop")), resize="half_pixel_centers")
    file = with_record(graph_file(target=coarse, classes=1), FileSpec(binary, "logits", False, ((33, 49),)))
    facts = page.check_model(file)
    assert (facts.output, facts.num_classes, facts.classes) == ("scores", 2, ["ground", "crop"])
    settings = settings_of(file, modules, tmp_path)
    assert (settings["output"], settings["threshold"], settings["alignCorners"]) == ("scores", 0.0, False)
    assert settings["ignored"] is None
    whole = ("FLOAT32", (1, 33, 49, 6))
    several = FileSpec(ModelSpec(6, activation="sigmoid", multi_label=True), "probabilities", True, ((33, 49),))
    settings = settings_of(with_record(graph_file(target=whole), several), modules, tmp_path)
    assert (settings["threshold"], settings["ignored"], settings["untinted"]) == (0.5, 255, [255])
    # Numbers of one channel are labels only where the record doesn't say otherwise.
    bytes_of_one = ("UINT8", (1, 33, 49, 1))
    file = with_record(graph_file(target=bytes_of_one, classes=1), FileSpec(ModelSpec(1), "logits", True, ((33, 49),)))
    with pytest.raises(ValueError, match="--output-kind labels"):
        page.check_model(file)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("classes", [1, 4])
def test_scores_become_the_labels_that_tensorflow_finds(align_corners, classes, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    random = np.random.default_rng(0)
    scores = random.normal(size=(1, 9, 13, classes)).astype(np.float32)
    options = {"alignCorners": align_corners, "threshold": 0.2, "ignored": 255}
    script = f"""
const fs = require("fs");
require("vm").runInThisContext(fs.readFileSync({json.dumps(str(page.STATIC / "js" / "decide.js"))}, "utf-8"));
const scores = Float32Array.from({scores.ravel().tolist()});
const from = {{ rows: 9, columns: 13, classes: {classes} }};
const given = {json.dumps(options)};
const some = decided(scores, from, {{ rows: 33, columns: 49 }}, 40, 30, given);
const best = decided(scores, from, {{ rows: 33, columns: 49 }}, 49, 33, {{ ...given, threshold: null }});
const same = decided(scores, from, {{ rows: 9, columns: 13 }}, 13, 9, {{ ...given, threshold: null }});
console.log(JSON.stringify([some, best, same].map((labels) => [...labels])));
"""
    file = tmp_path / "script.js"
    file.write_text(script)
    done = subprocess.run([node, str(file)], capture_output=True, text=True, check=True, timeout=60)
    some, best, same = (np.array(labels) for labels in json.loads(done.stdout))
    resize = {"align_corners": align_corners, "half_pixel_centers": not align_corners}
    large = tf.raw_ops.ResizeBilinear(images=scores, size=(33, 49), **resize)[0].numpy()
    part = large[:30, :40]
    if classes == 1:
        np.testing.assert_array_equal(some.reshape(30, 40), part[..., 0] > 0.2)
        return
    np.testing.assert_array_equal(some.reshape(30, 40), np.where(part.max(-1) > 0.2, part.argmax(-1), 255))
    np.testing.assert_array_equal(best.reshape(33, 49), large.argmax(-1))
    np.testing.assert_array_equal(same.reshape(9, 13), scores[0].argmax(-1))


def test_names_and_colours_come_from_the_files_metadata_unless_others_are_given(graph_file, modules, tmp_path):
    file = graph_file(classes=3)
    colours = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.uint8)
    classes = Classes(("sky", "road", "car"), tuple(map(tuple, colours.tolist())))
    with_record(file, FileSpec(ModelSpec(3, classes=classes), input_sizes=((33, 49),)))
    command = ["demo", str(file), "--output", str(tmp_path / "site"), "--runtime", str(modules), "--no-serve"]
    assert main(command) == 0
    settings = json.loads((tmp_path / "site" / "demo.json").read_text())
    assert settings["classes"] == ["sky", "road", "car"]
    assert settings["palette"][:4] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], voc_palette()[3].tolist()]
    page.write_page(file, tmp_path / "site", classes=["a", "b", "c"], palette=colours[::-1], runtime=modules)
    settings = json.loads((tmp_path / "site" / "demo.json").read_text())
    assert settings["classes"] == ["a", "b", "c"]
    assert settings["palette"][0] == [7, 8, 9]


def test_every_file_that_the_page_names_is_there(graph_file, modules, tmp_path):
    folder = page.write_page(graph_file(), tmp_path / "site", runtime=modules)
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', (folder / "index.html").read_text("utf-8")))
    assert len(named) > 3
    for script in (folder / "js").iterdir():
        named |= {
            f"js/{name}" for name in re.findall(r'(?:from "\./|importScripts\(")([^"]+)"', script.read_text("utf-8"))
        }
    assert not [name for name in named if not (folder / name).is_file()]
    ids = set(re.findall(r'id="([^"]+)"', (folder / "index.html").read_text("utf-8")))
    used = set(re.findall(r'part\("([^"]+)"\)', (folder / "js" / "main.js").read_text("utf-8")))
    assert used <= ids


def test_the_runtimes_import_is_made_relative_and_says_so(modules):
    index = runtime.page_files(modules)["index.js"].decode()
    assert 'from "./wasm-utils.js"' in index
    assert "changed by" in index
    assert 'from "@litertjs' not in index


def test_a_page_is_replaced_and_other_files_in_its_folder_stay(graph_file, modules, tmp_path):
    folder = page.write_page(graph_file(), tmp_path / "site", runtime=modules)
    (folder / "street.jpg").write_bytes(b"mine")
    page.write_page(graph_file(classes=3, name="second.tflite"), folder, classes=["a", "b", "c"], runtime=modules)
    assert json.loads((folder / "demo.json").read_text("utf-8"))["name"] == "second"
    assert (folder / "street.jpg").read_bytes() == b"mine"


def test_a_folder_with_other_files_is_refused_and_left_alone(graph_file, modules, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "diary.txt").write_text("private")
    with pytest.raises(FileExistsError, match=r"holds other files.*--output"):
        page.write_page(graph_file(), folder, runtime=modules)
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]
    with pytest.raises(FileExistsError, match="is a file"):
        page.write_page(graph_file(), folder / "diary.txt", runtime=modules)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"source": ("INT8", (1, 33, 49, 3))}, "--input-type uint8"),
        ({"source": ("FLOAT32", (1, -1, -1, 3))}, "--input-size"),
        ({"source": ("FLOAT32", (1, 3, 33, 49))}, r"images \(1, H, W, 3\)"),
        ({"source": ("FLOAT32", (4, 33, 49, 3))}, r"images \(1, H, W, 3\)"),
        ({"target": ("INT64", (1, 33, 49))}, "int64.*--output-kind labels"),
        ({"target": ("INT8", (1, 33, 49, 6))}, "int8.*--output-kind labels"),
        ({"target": ("FLOAT32", (1, 9, 13, 6))}, "--output-kind labels"),
        ({"target": ("FLOAT32", (1, 33, 49, 300))}, "up to 256 classes"),
        ({"target": ("FLOAT32", (1, 33, 49))}, "--output-kind labels"),
    ],
)
def test_files_that_the_browser_cant_run_are_refused_before_anything_is_written(
    graph_file, modules, tmp_path, file, message
):
    with pytest.raises(ValueError, match=message):
        page.write_page(graph_file(**file), tmp_path / "site", runtime=modules)
    assert not (tmp_path / "site").exists()


def test_what_a_file_takes_and_returns_is_read_from_it(graph_file):
    assert page.check_model(graph_file()) == page.BrowserModel((33, 49), "float32", "labels", 6)
    logits = graph_file(("UINT8", (1, 33, 49, 3)), ("FLOAT32", (1, 33, 49, 4)))
    assert page.check_model(logits) == page.BrowserModel((33, 49), "uint8", "scores", 4)


def test_wrong_arguments_are_told(graph_file, modules, tmp_path):
    (tmp_path / "text.tflite").write_text("no flatbuffer")
    with pytest.raises(ValueError, match="TFL3"):
        page.check_model(tmp_path / "text.tflite")
    with pytest.raises(FileNotFoundError):
        page.check_model(tmp_path / "absent.tflite")
    for options, message in (
        ({"classes": ["a", "b"]}, "2 class names.*6 classes"),
        ({"palette": np.zeros((3, 21), np.uint8)}, r"uint8 \(N, 3\)"),
        ({"input_range": (1, 0)}, "input_range"),
        ({"input_range": (0, float("nan"))}, "input_range"),
        ({"runtime": tmp_path / "nowhere"}, r"npm install @litertjs/core@2\.5\.3"),
    ):
        with pytest.raises(ValueError, match=message):
            page.write_page(graph_file(), tmp_path / "site", **{"runtime": modules, **options})
    with pytest.raises(ValueError, match="leave it out"):
        page.write_page(graph_file(("UINT8", (1, 33, 49, 3))), tmp_path / "site", input_range=(-1, 1), runtime=modules)


def test_the_command_writes_a_page_and_tells_what_is_wrong(graph_file, modules, tmp_path, capsys):
    names = tmp_path / "classes.txt"
    names.write_text("background\nroad\nsky\ncar\nbus\ntree\n")
    command = ["demo", str(graph_file()), "--output", str(tmp_path / "site"), "--runtime", str(modules), "--no-serve"]
    assert main([*command, "--classes", str(names)]) == 0
    assert "33x49" in capsys.readouterr().out
    assert json.loads((tmp_path / "site" / "demo.json").read_text())["classes"][1] == "road"
    names.write_text("road\nsky\n")
    assert main([*command, "--classes", str(names)]) == 1
    assert "received 2 class names (road, sky), and the model has 6 classes" in capsys.readouterr().err


def test_a_wheel_would_hold_every_file_of_the_page():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    patterns = config["options.package_data"]["keras_deeplab.demo"].split()
    package = ROOT / "keras_deeplab" / "demo"
    packed = {path for pattern in patterns for path in package.glob(pattern) if path.is_file()}
    assert packed >= {path for part in ("static", "npm") for path in (package / part).rglob("*") if path.is_file()}


# The runtime --------------------------------------------------------------------------------------------------


def test_a_changed_file_of_the_runtime_is_refused(modules):
    file = modules / runtime.FILES["litert_wasm_internal.wasm"][0]
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"litert_wasm_internal\.wasm isn't the file of @litertjs/core 2\.5\.3"):
        runtime.page_files(modules)
    file.unlink()
    with pytest.raises(ValueError, match=r"doesn't hold .*litert_wasm_internal\.wasm"):
        runtime.page_files(modules)


def test_the_lock_file_pins_both_packages_by_checksum_and_names_no_registry():
    folder = Path(runtime.__file__).parent / "npm"
    assert json.loads((folder / "package.json").read_text())["dependencies"] == {"@litertjs/core": runtime.VERSION}
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    locked = {name: entry for name, entry in packages.items() if name}
    assert set(locked) == {"node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"}
    for entry in locked.values():
        assert entry["version"] == runtime.VERSION
        assert len(base64.b64decode(entry["integrity"].removeprefix("sha512-"))) == 64
        assert "resolved" not in entry


@pytest.fixture
def npm(tmp_path, monkeypatch, modules):
    """Sets what the command npm does; it then runs in a PATH and with a cache of its own."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def program(text):
        (programs / "npm").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{text}\n")
        (programs / "npm").chmod(stat.S_IRWXU)

    return program


def test_npm_fills_the_cache_once(npm, modules, tmp_path):
    log = []
    npm(f'test "$1" = ci && test -f package-lock.json && cp -r "{modules}" node_modules && echo run >> {tmp_path}/runs')
    folder = runtime.fetch(log.append)
    assert folder == tmp_path / "cache" / "keras_deeplab" / "litertjs-2.5.3" / "node_modules"
    assert runtime.page_files(folder) == runtime.page_files(modules)
    assert len(log) == 1
    assert runtime.fetch(log.append) == folder
    assert (tmp_path / "runs").read_text() == "run\n"
    (folder / runtime.FILES["index.js"][0]).unlink()  # somebody cleared a part of the cache away
    assert runtime.page_files(runtime.fetch(log.append)) == runtime.page_files(modules)


def test_without_npm_or_its_success_the_message_says_what_would_do(npm, modules, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no command npm\. Install Node.*--runtime"):
        runtime.fetch(print)
    npm("echo 'no such host' >&2; exit 7")
    with pytest.raises(OSError, match=r"\(7\): no such host.*--runtime"):
        runtime.fetch(print)
    npm(f'cp -r "{modules}" node_modules && echo other > node_modules/@litertjs/core/dist/index.js')
    with pytest.raises(ValueError, match="isn't the file"):
        runtime.fetch(print)
    assert not runtime.cached()
    assert not list((tmp_path / "cache" / "keras_deeplab").iterdir())


# The server ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(folder, **options):
    """The address of a server for a folder, which ends afterwards."""
    server = make_server(folder, port=0, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site(tmp_path):
    """A folder beside a secret, with a link out of it, and the address that serves it."""
    folder = tmp_path / "site"
    (folder / "runtime").mkdir(parents=True)
    for name in ("index.html", "style.css", "main.js", "runtime/a.wasm", "demo.json", "model.tflite", ".hidden"):
        (folder / name).write_text(name)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    with serving(folder) as address:
        yield address


def get(address, path, method="GET", headers=None):
    connection = http.client.HTTPConnection(*address, timeout=20)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/index.html?image=x", "text/html"),
        ("/style.css", "text/css"),
        ("/main.js", "text/javascript"),
        ("/runtime/a.wasm", "application/wasm"),
        ("/demo.json", "application/json"),
        ("/model.tflite", "application/octet-stream"),
    ],
)
def test_files_are_served_with_types_that_browsers_accept(site, path, kind):
    status, headers, body = get(site, path)
    assert status == 200
    assert headers["Content-Type"].split(";")[0] == kind
    assert body.decode() == (urllib.parse.urlsplit(path).path.lstrip("/") or "index.html")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/runtime/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//../secret.txt",
        "/link.txt",
        "/.hidden",
        "/runtime",
        "/runtime/",
        "/absent.js",
        "/a%00b",
    ],
)
def test_nothing_else_is_served(site, path):
    status, _, body = get(site, path)
    assert status == 404
    assert b"secret" not in body.replace(path.encode(), b"")


def test_only_reading_is_served_and_only_to_this_machine(site):
    assert site[0] == "127.0.0.1"
    assert get(site, "/index.html", "HEAD")[0] == 200
    assert get(site, "/index.html", "PUT")[0] == 501


@pytest.mark.parametrize(
    ("name", "status"),
    [("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("evil.example:8000", 421), ("", 421)],
)
def test_a_page_that_calls_this_machine_by_another_name_gets_nothing(site, name, status):
    assert get(site, "/index.html", headers={"Host": name})[0] == status


def test_an_address_that_cant_be_had_is_told(site, tmp_path):
    with pytest.raises(OSError, match=rf"port {site[1]} .*choose another --port"):
        make_server(tmp_path, port=site[1])
    with pytest.raises(OSError, match="choose 0 to 65535"):
        make_server(tmp_path, port=70000)


def test_isolation_can_be_left_out(tmp_path):
    (tmp_path / "index.html").write_text("x")
    with serving(tmp_path, isolated=False) as address:
        assert "Cross-Origin-Embedder-Policy" not in get(address, "/")[1]


# In Chromium --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    program = chromium.executable()
    if program is None:
        pytest.skip("needs Chromium, which is not installed")
    if not runtime.cached():
        pytest.skip("needs LiteRT's runtime: python -m keras_deeplab.demo.runtime fetches it with npm")
    browser = chromium.Browser(program)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A full int8 file that returns labels, and a float one that returns logits, of a size that isn't square."""
    from export_models import small_model

    from keras_deeplab.export.tflite import export_tflite

    folder = tmp_path_factory.mktemp("exported")
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (65, 97, 3), dtype=np.uint8) for _ in range(4)]
    model = small_model()
    size = {"input_size": (65, 97)}
    labels = export_tflite(model, folder / "labels.tflite", precision="int8", calibration=images, **size)
    logits = export_tflite(model, folder / "logits.tflite", output="logits", **size)
    return labels.path, logits.path


def ready(browser):
    browser.wait("document.body.dataset.state === 'ready'")


def drop(browser, data, name, kind="image/png"):
    """Drops a file on the page, waits until it is done with it and returns the error shown, "" for none."""
    browser.evaluate(f"""(() => {{
        document.getElementById("download").removeAttribute("href");
        const bytes = Uint8Array.from(atob("{base64.b64encode(data).decode()}"), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "{name}", {{ type: "{kind}" }}));
        document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer: transfer, bubbles: true }}));
    }})()""")
    ready(browser)
    return browser.evaluate(
        "(document.getElementById('error').hidden ? '' : document.getElementById('error-text').innerText)"
    )


def downloaded(browser):
    address = browser.evaluate("document.getElementById('download').getAttribute('href')")
    return decode_label_png(base64.b64decode(address.removeprefix("data:image/png;base64,")))


@pytest.mark.parametrize("isolated", [True, False], ids=["threads", "plain host"])
@pytest.mark.parametrize("kind", ["labels", "logits"])
def test_the_browsers_labels_are_the_interpreters(browser, exported, tmp_path, kind, isolated):
    file = exported[kind == "logits"]
    folder = page.write_page(file, tmp_path / "site", classes=["background", "a", "b", "c", "d"])
    reference = predictor(file)
    random = np.random.default_rng(1)
    # Blotches, so that there are areas as well as single pixels.
    image = np.kron(random.integers(0, 256, (13, 20, 3)), np.ones((5, 5, 1))).astype(np.uint8)[:60, :93]
    with serving(folder, isolated=isolated) as (host, port):
        browser.requests.clear()
        browser.errors.clear()
        browser.open(f"http://{host}:{port}/")
        ready(browser)
        assert browser.evaluate("document.getElementById('error-text').innerText") == ""
        facts = browser.evaluate("document.getElementById('facts').innerText")
        several = isolated and os.cpu_count() > 1
        assert ("1 thread" not in facts.split("\n")) == several
        assert drop(browser, encode_png(image), "blotches.png") == ""
        labels, palette = downloaded(browser)
        expected = reference(image)
        assert labels.shape == expected.shape
        assert len(np.unique(expected)) > 2
        assert np.mean(labels == expected) >= 0.99
        np.testing.assert_array_equal(palette, voc_palette())
        legend = browser.evaluate("document.getElementById('legend').innerText").split("\n")
        found, counts = np.unique(labels, return_counts=True)
        order = found[np.argsort(-counts, kind="stable")]
        assert [part for part in legend if "%" not in part] == [["background", "a", "b", "c", "d"][i] for i in order]
        assert legend[1] == f"{100 * counts.max() / labels.size:.1f} %"
        assert re.fullmatch(r"\d+ ms", browser.evaluate("document.getElementById('milliseconds').innerText"))
        assert {urllib.parse.urlsplit(url).netloc for url in browser.requests if url.startswith("http")} == {
            f"{host}:{port}"
        }
        assert browser.errors == []


def test_wrong_files_are_told_on_the_page_and_right_ones_work_afterwards(browser, exported, tmp_path):
    folder = page.write_page(exported[0], tmp_path / "site")
    with serving(folder) as (host, port):
        browser.open(f"http://{host}:{port}/")
        ready(browser)
        assert "not a picture" in drop(browser, b"some text", "notes.txt", "text/plain")
        image = encode_png(np.full((40, 60, 3), 90, np.uint8))
        assert "damaged" in drop(browser, image[: len(image) // 2], "half.png")
        huge = image[:16] + (30000).to_bytes(4) * 2 + image[24:]
        assert "30,000 \u00d7 30,000" in drop(browser, huge, "huge.png")
        assert drop(browser, encode_png(np.full((1, 1, 3), 90, np.uint8)), "one.png") == ""
        assert downloaded(browser)[0].shape == (1, 1)
        # Larger than the model's 65x97: scaled down to fit, with its shape kept.
        assert drop(browser, encode_png(np.full((400, 300, 3), 90, np.uint8)), "large.png") == ""
        assert downloaded(browser)[0].shape == (65, 49)
        assert "300 \u00d7 400" in browser.evaluate("document.getElementById('scaled').innerText")


def test_the_slider_the_legend_and_the_camera_do_what_they_say(browser, exported, tmp_path):
    folder = page.write_page(exported[0], tmp_path / "site")
    visible = """(() => {
        const tint = document.getElementById("tint");
        const data = tint.getContext("2d").getImageData(0, 0, tint.width, tint.height).data;
        return data.filter((value, index) => index % 4 === 3 && value).length;
    })()"""
    with serving(folder) as (host, port):
        browser.open(f"http://{host}:{port}/")
        ready(browser)
        image = np.random.default_rng(2).integers(0, 256, (65, 97, 3), dtype=np.uint8)
        assert drop(browser, encode_png(image), "noise.png") == ""
        labels = downloaded(browser)[0]
        assert browser.evaluate(visible) == labels.size
        browser.evaluate("document.querySelector('#legend input').click()")
        assert browser.evaluate(visible) == labels.size - np.bincount(labels.ravel()).max()
        browser.evaluate("""(() => {
            const slider = document.getElementById("opacity");
            slider.value = 25;
            slider.dispatchEvent(new Event("input"));
        })()""")
        assert browser.evaluate("document.getElementById('tint').style.opacity") == "0.25"
        browser.evaluate("document.getElementById('camera').click()")
        browser.wait("document.getElementById('tint').getAttribute('aria-label').includes('camera')")
        browser.evaluate("document.getElementById('camera').click()")
        browser.wait("document.getElementById('download').download === 'camera_labels.png'")
        assert downloaded(browser)[0].shape[1] > 0


def test_a_missing_model_is_told(browser, exported, tmp_path):
    folder = page.write_page(exported[0], tmp_path / "site")
    (folder / "model.tflite").unlink()
    with serving(folder) as (host, port):
        browser.open(f"http://{host}:{port}/")
        ready(browser)
        assert "the server answered 404" in browser.evaluate("document.getElementById('error-text').innerText")
        assert browser.evaluate("document.getElementById('file').disabled")
