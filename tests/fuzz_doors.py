"""Every door of the package that takes what others made, with valid inputs, changed ones, and what enters it.

`test_fuzz.py` puts a few changed inputs to each door, `benchmarks/fuzz.py` as many as one likes. A door may take an
input or refuse it with a ValueError or an OSError whose message names it. Anything else is a fault.
"""

import contextlib
import inspect
import io
import itertools
import json
import shutil
import socket
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from mutations import Files, changed, changed_json, changed_text, odd_value

REFUSALS = (ValueError, OSError)


@dataclass
class Ready:
    """A door that inputs can be put to.

    Attributes:
        draw: maps a random.Random and whether to look `below` checksums to a changed input.
        enter: maps an input to whatever the door makes of it.
        names: maps an input to the texts of which an error's message must have one; none where it has no name.
        refusals: the errors that say that an input isn't taken.
        valid: an input that is taken; None where there is none.
        close: ends what the door began, such as a server.
    """

    draw: Callable[..., Any]
    enter: Callable[[Any], Any]
    names: Callable[[Any], tuple[str, ...]] = lambda made: ()
    refusals: tuple[type[BaseException], ...] = REFUSALS
    valid: Any = None
    close: Callable[[], None] = lambda: None


def of_files(files, folder, enter, whole=False):
    """A door that takes the path of the first of some files, or, `whole`, of the folder that they are in."""
    here = folder / "input"

    def put(content):
        shutil.rmtree(here, ignore_errors=True)
        for name, data in content.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(data)
        return enter(here if whole else here / next(iter(content)))

    def names(content):
        return (*(Path(name).name.removesuffix(".index") for name in content), *([str(here)] if whole else []))

    return Ready(files.changed, put, names, valid=files.content)


def image_of(seed=0, size=(24, 30), channels=3, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(dtype)


# Weights ------------------------------------------------------------------------------------------------------------


def weights(format):
    def door(folder, swap):
        import weight_files
        from fuzz_weights import MAKERS, once

        import keras_deeplab
        from keras_deeplab import loading
        from keras_deeplab._helpers import limits
        from keras_deeplab.weights.describe import describe
        from keras_deeplab.weights.readers import hdf5

        reader = weight_files.KeptReader()
        swap(hdf5, "Reader", lambda: reader)
        swap(limits, "HDF5_SECONDS", 1)
        swap(loading, "build", once(loading.build))
        counter = itertools.count()

        def enter(path):
            return describe(path) if next(counter) % 4 == 3 else keras_deeplab.load(path)

        return of_files(MAKERS[format](format, folder), folder, enter)

    return door


def pickle_door(folder, swap):
    import pickle

    from fuzz_weights import small_arrays

    from keras_deeplab.weights import readers

    content = pickle.dumps({**small_arrays(), "StructuredToParameterName@@": {"a": "x"}}, 4)
    return of_files(Files({"a.pdparams": content}), folder, readers.read)


def endings_door(folder, swap):
    """Files of one format under the name of another, and files of formats that nothing here reads."""
    from fuzz_weights import small_arrays, torch_content
    from weight_files import safetensors, torch_legacy, torch_zip

    import keras_deeplab

    npz = io.BytesIO()
    np.savez(npz, **small_arrays())
    contents = [
        torch_zip(*torch_content(legacy=False)),
        torch_legacy(*torch_content(legacy=True)),
        safetensors(small_arrays()),
        npz.getvalue(),
        b"\x89HDF\r\n\x1a\n" + bytes(600),
        b"\x1c\0\0\0TFL3" + bytes(200),
        b"\x0a\x05layer\x12\x04conv" * 20,  # a caffemodel's beginning
        b"\x82\xa4name\xa1a\xa5array\xc4\x04abcd",  # msgpack
        b"ustar" + bytes(1019),
        b"{}",
        b"",
    ]
    endings = "pth pt ckpt safetensors keras h5 tflite pdparams pkl index pb npz caffemodel msgpack tar tar.gz zip onnx"

    def draw(random, below=False):
        data = random.choice(contents)
        data = changed(data, random) if below else data
        return {f"odd.{random.choice([*endings.split(), 'index.json', 'weights.h5', ''])}": data}

    ready = of_files(Files({"odd.pth": b""}), folder, keras_deeplab.load)
    return Ready(draw, ready.enter, ready.names)


def hub_door(folder, swap):
    """A folder of weights with descriptions of all kinds beside them."""
    from fuzz_weights import MAKERS, once

    from keras_deeplab import loading

    swap(loading, "build", once(loading.build))
    made = MAKERS["safetensors"]("safetensors", folder)
    config = {"architectures": ["X"], "model_type": "deeplab", "num_labels": 3, "image_size": 512}
    config |= {"id2label": {"0": "a", "1": "b", "2": "c"}, "encoder_name": "resnet34", "_model_class": "DeepLabV3Plus"}
    processor = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_resize": True}
    content = {
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps(processor).encode(),
        "model.yaml": b"MODEL:\n  META_ARCHITECTURE: DeepLab\n  SEM_SEG_HEAD: {NUM_CLASSES: 3, NORM: BN}\n",
        "config.py": b"norm_cfg = dict(type='BN')\nmodel = dict(decode_head=dict(num_classes=3, channels=4))\n",
    }
    return of_files(Files(content | {"model.safetensors": made.content["a.safetensors"]}), folder, load_of(), True)


def load_of():
    import keras_deeplab

    return keras_deeplab.load


def transformers_door(folder, swap):
    """A hub's folder whose config.json decides what is built."""
    config = {
        **{"architectures": ["MobileNetV2ForSemanticSegmentation"], "model_type": "mobilenet_v2", "output_stride": 16},
        **{"depth_multiplier": 0.35, "image_size": 513, "num_channels": 3, "min_depth": 8, "depth_divisible_by": 8},
        **{"expand_ratio": 6, "first_layer_is_expansion": True, "finegrained_output": True, "layer_norm_eps": 0.001},
        **{"hidden_act": "relu6", "tf_padding": True, "semantic_loss_ignore_index": 255, "dtype": "float32"},
        **{"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}, "classifier_dropout_prob": 0.8},
    }
    processor = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    processor |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"shortest_edge": 256}}
    from weight_files import safetensors

    arrays = {
        "mobilenet_v2.conv_stem.first_conv.convolution.weight": np.ones((16, 3, 3, 3), "float32"),
        "segmentation_head.classifier.convolution.weight": np.ones((2, 256, 1, 1), "float32"),
        "segmentation_head.conv_pool.convolution.weight": np.ones((256, 112, 1, 1), "float32"),
    }
    content = {"config.json": json.dumps(config).encode(), "preprocessor_config.json": json.dumps(processor).encode()}
    ready = of_files(Files(content | {"model.safetensors": safetensors(arrays)}), folder, load_of(), True)
    return replace(ready, valid=None)  # the network has more arrays; its settings are what is looked at


def preset_door(folder, swap):
    import weight_files

    import keras_deeplab
    from keras_deeplab._helpers import limits
    from keras_deeplab.weights.readers import hdf5

    reader = weight_files.KeptReader()
    swap(hdf5, "Reader", lambda: reader)
    swap(limits, "HDF5_SECONDS", 1)
    keras_deeplab.save_to_preset(tiny_model(), folder / "preset")
    return of_files(Files.below(folder / "preset"), folder, keras_deeplab.from_preset, True)


def tiny_model(classes=("a", "b", "c")):
    import keras
    from randomise import randomise

    import keras_deeplab

    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 4, padding="same", name="one")(inputs)
    x = keras.layers.BatchNormalization(name="two")(keras.layers.Conv2D(4, 3, 2, padding="same", name="three")(x))
    network = keras.Model(inputs, x, name="small")
    return randomise(
        keras_deeplab.DeepLabV3(network, num_classes=len(classes), filters=4, output_stride=8, classes=list(classes))
    )


def names_door(folder, swap):
    """Names of published weights, handles of hubs and paths."""
    import keras_deeplab
    from keras_deeplab.weights import handles, named

    def parsed_only(handle):
        raise ValueError(f"{handle} is {handles.parse(handle)}")

    def found_only(name, **settings):
        raise ValueError(f"{name} is {named.find(name, **settings)}")

    swap(handles, "fetch", parsed_only)
    swap(named, "fetch", found_only)
    valid = [
        *list(named.NAMES)[:4],
        "hf://user/name",
        "hf://user/name@main",
        "hf://a/b-c.d@refs/pr/1",
        "x/model.ckpt-3",
    ]

    def draw(random, below=False):
        text = changed_text(random.choice(valid).encode(), random).decode("utf-8", "replace")
        return text if random.randrange(4) else text + random.choice(["\0", "/", "\n", "é", "/.."])

    def names(text):
        shown = repr(text)[1:-1]
        return (text[:12], shown[:12], text[-12:], shown[-12:], repr(Path(text).name)[1:13])

    return Ready(draw, keras_deeplab.load, names)


# Records and exported files -------------------------------------------------------------------------------------------


def record():
    from keras_deeplab.specs import Classes, FileSpec, ModelSpec

    classes = Classes(("sky", "road", "car"), ((0, 0, 0), (128, 0, 0), (0, 128, 0)))
    settings = {"filters": 8, "atrous_rates": (6, 12), "dropout": 0.1}
    model = ModelSpec(3, 3, "DeepLabV3", "mobilenet_v2", "tf", 16, settings, {"alpha": 0.35}, "tf", classes=classes)
    return FileSpec(model, output="logits")


def record_json(folder, swap):
    from keras_deeplab.specs import FileSpec, ModelSpec

    def enter(path):
        text = path.read_bytes()
        kind = FileSpec if path.name == "file.json" else ModelSpec
        found = kind.from_json(text, str(path))
        again = kind.from_json(found.to_json(), str(path))
        if again != found:
            raise AssertionError(f"{found} becomes {again}")

    texts = {"file.json": record().to_json().encode(), "model.json": record().model.to_json().encode()}
    ready = of_files(Files(texts), folder, enter)

    def draw(random, below=False):
        name = random.choice(list(texts))
        return {name: (changed_json if below else changed)(texts[name], random)}

    return Ready(draw, ready.enter, ready.names, valid={"file.json": texts["file.json"]})


def record_saved_model(folder, swap):
    from keras_deeplab.export import read_spec
    from keras_deeplab.metadata import saved_model

    (folder / "made").mkdir()
    saved_model.write(folder / "made", record())
    (folder / "made" / "saved_model.pb").write_bytes(b"")
    made = Files.below(folder / "made")
    name = "assets.extra/keras_deeplab.json"
    inside = Files({name: made.content[name]})
    return of_files(Files(made.content, lambda random: inside.changed(random, True)), folder, read_spec, True)


def record_tflite(folder, swap):
    from keras_deeplab.export import read_spec
    from keras_deeplab.metadata.tflite import read_classes

    data = tflite_file(folder)
    start = data.rindex(b"PK\x03\x04")
    while (earlier := data.rfind(b"PK\x03\x04", 0, start)) >= 0:
        start = earlier
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def inside(random):
        name = random.choice(list(members))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for key, raw in {**members, **Files({name: members[name]}).changed(random, True)}.items():
                archive.writestr(key, raw)
        tail = packed.getvalue()
        return {"a.tflite": data[:start] + (tail if random.randrange(3) else changed(tail, random))}

    def enter(path):
        return read_spec(path), read_classes(path)

    return of_files(Files({"a.tflite": data}, inside), folder, enter)


def tflite_file(folder, **settings):
    import keras_deeplab

    keras_deeplab.export_tflite(tiny_model(), folder / "made.tflite", input_size=33, **settings)
    return (folder / "made.tflite").read_bytes()


def record_onnx(folder, swap):
    from keras_deeplab.export import read_spec

    def field(number, data):
        return _varint(number << 3 | 2) + _varint(len(data)) + data

    text = record().to_json().encode()

    def file(text):
        entry = field(1, b"keras_deeplab") + field(2, text)
        return b"\x08\x09" + field(2, b"maker") + field(7, bytes(300)) + field(14, entry) + field(8, b"\x10\x0d")

    inside = Files({"a.json": text})
    return of_files(
        Files({"a.onnx": file(text)}, lambda random: {"a.onnx": file(inside.changed(random, True)["a.json"])}),
        folder,
        read_spec,
    )


def _varint(value):
    raw = b""
    while value > 127:
        raw, value = raw + bytes([value & 127 | 128]), value >> 7
    return raw + bytes([value])


def predictor_of(kind):
    """An exported file that is run: its network, and an image put to it."""

    def door(folder, swap):
        import keras_deeplab

        if kind == "tflite":
            made = Files({"a.tflite": tflite_file(folder)})
        elif kind == "onnx":
            from keras_deeplab.export import export_model

            export_model(tiny_model(), folder / "made.onnx")
            made = Files({"a.onnx": (folder / "made.onnx").read_bytes()})
        else:
            keras_deeplab.export_saved_model(tiny_model(), folder / "made", warmup_size=33)
            made = Files.below(folder / "made", "saved_model.pb")
        image = image_of(size=(33, 33))

        def enter(path):
            return keras_deeplab.predictor(path, **({} if kind == "saved_model" else {"num_threads": 1}))(image)

        return of_files(made, folder, enter, whole=kind == "saved_model")

    return door


# Images and masks -----------------------------------------------------------------------------------------------------


def encoded(ending, array):
    import cv2
    from PIL import Image

    if ending == ".npy":
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()
    if ending in (".gif", ".palette.png"):
        file = io.BytesIO()
        picture = Image.fromarray(array[..., 0] % 4)
        if ending != ".gif":
            picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0, 128])
        picture.save(file, "GIF" if ending == ".gif" else "PNG")
        return file.getvalue()
    data = cv2.imencode(ending, array)[1].tobytes()
    if ending == ".jpg":  # with an orientation
        import struct

        exif = b"Exif\0\0" + struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
        data = data[:2] + struct.pack(">HH", 0xFFE1, len(exif) + 2) + exif + data[2:]
    return data


def images(ending):
    def door(folder, swap):
        from keras_deeplab.data.images import read_image

        counter = itertools.count()
        channels = 4 if ending in (".tif", ".npy") else 3

        def enter(path):
            wanted = (channels, 3, 1, channels)[next(counter) % 4]
            found = read_image(path, wanted, image_range=(0, 4095), max_pixels=1 << 22)
            assert found.dtype == np.uint8, found.dtype
            assert found.ndim == 3, found.shape
            assert found.shape[2] == wanted, found.shape

        return of_files(Files({f"a{ending}": encoded(ending, image_of(channels=channels))}), folder, enter)

    return door


def masks(ending):
    def door(folder, swap):
        from keras_deeplab.data.mask_files import read_mask
        from keras_deeplab.data.masks import label_reader

        reader = label_reader(5)

        def enter(path):
            stored = read_mask(path)
            try:
                labels = reader(*stored)
            except ValueError as error:
                raise ValueError(f"{path} {error}") from error  # as its callers do
            assert labels.dtype == np.uint8, labels.dtype
            assert labels.ndim == 2, labels.shape
            assert set(np.unique(labels)) <= {0, 1, 2, 3, 4, 255}, np.unique(labels)

        array = np.where(image_of(channels=1) < 250, image_of(channels=1) % 5, 255).astype(np.uint8)
        if ending == ".npy":
            array = array[..., 0]
        data = encoded(ending, array)
        return of_files(Files({f"a{ending}": data}), folder, enter)

    return door


def rasters(folder, swap):
    from keras_deeplab.data.settings import ImageOptions
    from keras_deeplab.inference.rasters.reading import open_raster

    contents = {f"a{end}": encoded(end, image_of()) for end in (".tif", ".png", ".jpg", ".npy")}
    with contextlib.suppress(ImportError):
        contents["b.tif"] = geotiff()
    reading = ImageOptions()

    def enter(path):
        raster = open_raster(path, 3, reading, max_pixels=1 << 22)
        try:
            if raster.height * raster.width > 1 << 26:
                raise ValueError(f"{path} is larger than this test reads")
            for top in range(0, raster.height, 16):
                raster.read(top, min(top + 16, raster.height))
        finally:
            raster.close()

    ready = of_files(Files(contents), folder, enter)

    def draw(random, below=False):
        name = random.choice(list(contents))
        return {name: changed(contents[name], random)}

    return Ready(draw, ready.enter, ready.names, valid={"a.tif": contents["a.tif"]})


def geotiff():
    import rasterio
    from rasterio.io import MemoryFile

    with rasterio.Env(), MemoryFile() as file:
        settings = {"driver": "GTiff", "height": 40, "width": 50, "count": 3, "dtype": "uint8", "tiled": True}
        settings |= {"blockxsize": 16, "blockysize": 16, "compress": "deflate", "crs": "EPSG:32633"}
        with file.open(transform=rasterio.Affine(1, 0, 500000, 0, -1, 5000000), **settings) as target:
            target.write(image_of(size=(40, 50)).transpose(2, 0, 1))
        return file.read()


def videos(ending):
    def door(folder, swap):
        from keras_deeplab.inference.frames import Frames, VideoFile

        file = VideoFile(folder / f"made{ending}", (32, 48), 25.0)
        for number in range(5):
            file.write(image_of(number, (32, 48)))
        file.close()

        def enter(path):
            with Frames(path) as frames:
                for _ in range(50):
                    if frames.read() is None:
                        break

        data = (folder / f"made{ending}").read_bytes()
        return of_files(Files({f"a{ending}": data}), folder, enter)

    return door


def segment_folder(folder, swap):
    """The files that `keras-deeplab predict` reads: each that can't be is told by name, and the others are written."""
    from keras_deeplab.inference.files import segment_files
    from keras_deeplab.specs import Classes

    made = Files({f"{number}{end}": encoded(end, image_of()) for number, end in enumerate((".png", ".jpg", ".bmp"))})
    outputs = ("labels", "overlay", "geojson", "coco", "regions")

    def enter(place):
        written, failures = segment_files(
            lambda image: image[..., 0] % 3,
            place,
            folder / "out",
            outputs=[name for name in outputs if name in _outputs()],
            classes=Classes(("background", "b", "c")),
            max_pixels=1 << 20,
            progress=False,
            log=lambda line: None,
        )
        assert len(written) + len(failures) == 3
        assert len(written) >= 2, failures
        for file, message in failures:
            assert file.name in message
            assert "Error: " not in message.partition(file.name)[2][:40], message

    return of_files(made, folder, enter, whole=True)


def _outputs():
    from keras_deeplab.inference.outputs import OUTPUTS

    return OUTPUTS


# Data sets ------------------------------------------------------------------------------------------------------------


def read_all(root, **options):
    from keras_deeplab import data

    for split in dict.fromkeys(("train", *data.splits_of(root))):
        data.load(root, split, **options).check()


def annotations(name):
    def door(folder, swap):
        from annotation_exports import EXPORTS

        (folder / "made").mkdir()
        EXPORTS[name](folder / "made")
        made = Files.below(folder / "made")
        told = Files({key: data for key, data in made.content.items() if not key.endswith(".png")} or made.content)

        def draw(random, below=False):
            # Mostly what tells the annotations; the images have doors of their own.
            part = told if random.randrange(8) else made
            return {**made.content, **part.changed(random, below or bool(random.randrange(2)))}

        ready = of_files(made, folder, lambda root: read_all(f"{name}:{root}"), whole=True)
        return Ready(draw, ready.enter, ready.names, valid=made.content)

    return door


def public(name):
    def door(folder, swap):
        from data_sets import MAKERS

        (folder / "made").mkdir()
        MAKERS[name](folder / "made")
        return of_files(Files.below(folder / "made"), folder, lambda root: read_all(f"{name}:{root}"), whole=True)

    return door


def voc(folder, swap):
    year = "VOCdevkit/VOC2012/"
    content = {}
    for number in range(3):
        content[f"{year}JPEGImages/2007_00000{number}.jpg"] = encoded(".jpg", image_of(number))
        content[f"{year}SegmentationClass/2007_00000{number}.png"] = encoded(".png", np.zeros((30, 24), np.uint8))
    content[f"{year}ImageSets/Segmentation/train.txt"] = b"2007_000000\n2007_000002\n"
    content[f"{year}ImageSets/Segmentation/val.txt"] = b"2007_000001\n"
    return of_files(Files(content), folder, lambda root: read_all(f"voc:{root}"), whole=True)


def own_folder(coding):
    """One's own photographs, with numbers or colours in the masks."""

    def door(folder, swap):
        from keras_deeplab.specs import default_colors

        content = {
            "classes.txt": b"background\nleaf\nstem\n",
            "splits/train.txt": b"p0\np1\n",
            "splits/val.txt": b"p2\n",
        }
        for number in range(3):
            content[f"images/p{number}.png"] = encoded(".png", image_of(number))
            values = image_of(number, channels=1)[..., 0] % 3
            if coding == "colours":
                values = np.array(default_colors(3), np.uint8)[values][..., ::-1]
            content[f"masks/p{number}.png"] = encoded(".png", values)
        options = {}
        if coding == "colours":
            content["colors.txt"] = "".join("{} {} {}\n".format(*color) for color in default_colors(3)).encode()
            options = {"colors": "colors.txt"}

        def enter(root):
            settings = {key: root / value for key, value in options.items()}
            read_all(root, **settings)

        return of_files(Files(content), folder, enter, whole=True)

    return door


def doctor(folder, swap):
    """`keras-deeplab check-data`, which tells what is wrong instead of raising."""
    from annotation_exports import EXPORTS

    from keras_deeplab.cli import main

    (folder / "made").mkdir()
    EXPORTS["labelme"](folder / "made")
    exported = Files.below(folder / "made")
    content = {"classes.txt": b"background\nleaf\nstem\n", "splits/train.txt": b"p0\np1\n", "splits/val.txt": b"p2\n"}
    for number in range(3):
        content[f"images/p{number}.jpg"] = encoded(".jpg", image_of(number))
        content[f"masks/p{number}.png"] = encoded(".png", image_of(number, (30, 24), 1)[..., 0] % 3)
    own = Files(content)

    def draw(random, below=False):
        return (own if random.randrange(3) else exported).changed(random, below)

    def enter(root):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
            status = main(["check-data", str(root)])
        assert status in (0, 1), told.getvalue()

    ready = of_files(own, folder, enter, whole=True)
    return Ready(draw, ready.enter, ready.names, valid=content)


def tfrecords(folder, swap):
    import tensorflow as tf

    from keras_deeplab.inference.beam.reading import Reading
    from keras_deeplab.inference.beam.records import encoded as of_record
    from keras_deeplab.inference.beam.records import framed, records

    def value(data):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))

    examples = []
    for number in range(3):
        features = {
            "image/encoded": value(encoded(".png", image_of(number))),
            "image/segmentation/class/encoded": value(encoded(".png", image_of(number, channels=1) % 3)),
            "image/filename": value(f"p{number}".encode()),
        }
        examples.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    made = b"".join(map(framed, examples))
    reading = Reading(masks="record", num_classes=3, max_pixels=1 << 20)

    def inside(random):
        number = random.randrange(3)
        return {
            "a.tfrecord": b"".join(
                framed(changed(one, random) if index == number else one) for index, one in enumerate(examples)
            )
        }

    def enter(path):
        with path.open("rb") as file:
            for found in records(file):
                try:
                    if isinstance(found, ValueError):
                        raise found
                    held = of_record(found)
                    image = reading.image(held.image, held.name)
                    if held.mask is not None:
                        reading.truth(held.mask, held.name, held.image, image)
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from error  # as the pipeline's failures have it

    return of_files(Files({"a.tfrecord": made}, inside), folder, enter)


def ledgers(folder, swap):
    """The folder of a run over many images, begun and gone on with."""
    from keras_deeplab.inference.beam.ledger import Ledger

    settings = {"model": "m", "inputs": ["a"], "probabilities": False}
    (folder / "made").mkdir()
    ledger = Ledger(str(folder / "made"))
    ledger.begin(settings)
    ledger.commit("x", {"name": "x", "stamp": [1, 2], "mask_stamp": None}, np.zeros((3, 4), np.uint8), None)

    def enter(root):
        again = Ledger(str(root))
        again.begin(settings)
        again.finished("x", (1, 2), None)

    return of_files(Files.below(folder / "made"), folder, enter, whole=True)


# Runs and settings ----------------------------------------------------------------------------------------------------


def run_report(folder, swap):
    from test_reports_run import records, write

    from keras_deeplab.reports.run import write_report

    write(folder / "made", records())
    return of_files(Files.below(folder / "made"), folder, write_report, whole=True)


def run_resumed(folder, swap):
    """The folder of a training run, whose checkpoint is opened by the same call again."""
    from keras_deeplab import data, train

    source = data.load("synthetic", num_examples=2, size=(32, 32))
    model = tiny_model(tuple(source.classes))
    settings = {"steps": 2, "batch_size": 1, "crop_size": 32, "learning_rate": 0.01}
    quiet = {"progress": False, "log": lambda line: None}
    with contextlib.redirect_stdout(io.StringIO()):
        train(model, source, folder / "made", **settings, **quiet)
    made = Files.below(folder / "made", "last.keras")
    content = {
        name: data for name, data in made.content.items() if name in ("last.keras", "history.jsonl", "config.json")
    }
    with zipfile.ZipFile(io.BytesIO(content["last.keras"])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def inside(random):
        name = random.choice(["training/state.json"] * 3 + ["training/arrays.npz", "config.json", "model.weights.h5"])
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for key, raw in {**members, **Files({name: members[name]}).changed(random, True)}.items():
                archive.writestr(key, raw)
        return {"last.keras": packed.getvalue()}

    def enter(root):
        return train(model, source, root, **settings, **quiet)

    return of_files(Files(content, inside), folder, enter, whole=True)


def crf_settings(folder, swap):
    from keras_deeplab.inference.crf.settings import parameters, read, written

    return of_files(
        Files({"crf.json": written(parameters("4/67/3,3/1"), mean_iou=0.5)}), folder, lambda p: read(str(p))
    )


def serving_config(folder, swap):
    from keras_deeplab.serving.config import write_config

    text = b"""# models
model_config_list {
  config { name: "voc" base_path: '/models/voc' model_platform: "tensorflow"
    model_version_policy < specific { versions: [1, 2] } > }
}
"""
    files = Files({"models.config": text, "voc/1/saved_model.pb": b"", "other/3/saved_model.pb": b""})
    return of_files(files, folder, write_config, whole=True)


def arguments_of(random, valid, count=3):
    """Keyword arguments with up to `count` odd ones among them."""
    made = dict(valid)
    for name in random.sample(list(valid), min(len(valid), random.randrange(1, count + 1))):
        made[name] = odd_argument(random)
    return made


def odd_argument(random):
    kind = random.randrange(6)
    if kind == 0:
        return random.choice([None, True, "", "x", (), [], {}, 1.5, -1.0, float("nan"), b"x", object])
    if kind == 1:
        return tuple(random.choice([0, -1, 1, 2, 3, 6, 300, None, 1.5, "a"]) for _ in range(random.randrange(5)))
    if kind == 2:
        return [random.choice([0, 1, 2, 17, -3]) for _ in range(random.randrange(4))]
    if kind == 3:
        return random.choice([np.int64(3), np.float32(2), np.array([1, 2]), np.zeros((2, 2)), np.uint8(200)])
    return random.choice([0, -1, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 31, 32, 33, 64, 255, 256, 300, 2**31])


BUILDERS = ("DeepLabV1", "DeepLabV2", "DeepLabV3", "DeepLabV3Plus")


def builders(folder, swap):
    """The four builders with sizes, strides, rates and counts of every kind; what is built is called."""
    import keras
    import tiny_backbone

    import keras_deeplab
    from keras_deeplab.backbones import BACKBONES, Backbone

    if "tiny" not in BACKBONES:
        BACKBONES["tiny"] = Backbone(tiny_backbone.tiny, "stage2_relu", "tf", v3_head="image_pooling")
    common = {
        **{"input_shape": [(33, 33, 3), (None, None, 3), (40, 56, 4), (17, 17, 1), (1, 1, 3)]},
        **{"num_classes": [1, 2, 21, 255, 256, 300], "output_stride": [4, 8, 16, 32]},
        **{"include_preprocessing": [True, False, "tf", "torch"], "upsample_logits": [True, False]},
        **{"classifier_activation": [None, "softmax", "sigmoid"], "classes": [None], "dropout": [0, 0.1]},
        **{"atrous_rates": [(1,), (6, 12), (1, 2, 3, 4), (18,), ()], "multi_grid": [(1, 2, 4), (1,), None]},
        **{"filters": [1, 4], "name": ["m", "a b"], "align_corners": [True, False]},
    }

    def draw(random, below=False):
        name = random.choice(BUILDERS)
        takes = inspect.signature(getattr(keras_deeplab, name)).parameters
        chosen = {key: random.choice(values) for key, values in common.items() if key in takes}
        chosen = {key: value for key, value in chosen.items() if random.randrange(2)}
        if below and chosen:
            for key in random.sample(list(chosen), random.randrange(1, min(3, len(chosen)) + 1)):
                chosen[key] = odd_argument(random)
        chosen = {key: value for key, value in chosen.items() if not _is_huge(value)}
        return name, {"filters": 4, **chosen} if "filters" in takes else chosen

    def enter(made):
        name, arguments = made
        keras.backend.clear_session()
        model = getattr(keras_deeplab, name)("tiny", **arguments)
        _, height, width, channels = model.input_shape
        found = np.asarray(model(np.zeros((1, height or 33, width or 33, channels), "float32")))
        assert found.shape[-1] == model.spec.num_classes, found.shape
        assert np.isfinite(found).all()

    return Ready(draw, enter)


def _is_huge(value):
    """Whether a number, or one in it, asks for more memory than a test has: of that nothing is to be learnt."""
    several = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(one, (int, float, np.number)) and abs(one) > 1000 for one in several)


def specs_in_python(folder, swap):
    """Classes, records and maps of labels by arguments of all kinds."""
    from keras_deeplab.inference.crf.settings import parameters
    from keras_deeplab.specs import Classes, ModelSpec, label_map

    pool = [("a", "b"), ["sky"], ("a", "a"), ("",), "abc", ((0, 0, 0), (1, 2, 3)), ((0, 0, 300),), None, 0, 255, 3, -1]
    pool += ["tf", ((0.5,) * 3, (0.5,) * 3), (0, 4095), (1, 0), "softmax", "align_corners", True, 1.5, 1, 2, 300]

    def draw(random, below=False):
        kind = random.choice(["classes", "model", "map", "crf"])
        values = [odd_value(random) if below and not random.randrange(3) else random.choice(pool) for _ in range(6)]
        return kind, values

    def enter(made):
        kind, values = made
        if kind == "classes":
            Classes(*values[:3]).palette(8)
        elif kind == "map":
            label_map(Classes(values[0]), Classes(values[1]), values[2])
        elif kind == "crf":
            parameters(values[0])
        else:
            names = ("channels", "output_stride", "preprocessing", "image_range", "activation")
            chosen = dict(list(zip(names, values[1:], strict=True))[: len(str(values)) % 3])
            spec = ModelSpec(values[0], **chosen)
            assert ModelSpec.from_json(spec.to_json()) == spec

    return Ready(draw, enter)


def options_in_python(folder, swap):
    """The options of every command as arguments."""
    records = _records()

    def draw(random, below=False):
        name = random.choice(list(records))
        from keras_deeplab.options import options

        known = list(options(records[name]))
        chosen = random.sample(known, min(len(known), random.randrange(1, 4)))
        return name, {key: odd_value(random) if below else odd_argument(random) for key in chosen}

    def enter(made):
        name, values = made
        found = records[name].of(**values)
        json.dumps(found.to_json())

    return Ready(draw, enter)


def _records():
    from importlib import import_module

    from keras_deeplab.cli import COMMANDS

    modules = {name: import_module(row) if isinstance(row, str) else row for name, row in COMMANDS.items()}
    return {name: module.Arguments for name, module in modules.items()}


def command_line(folder, swap):
    """Words of the command line, up to where a command would run."""
    from keras_deeplab import cli
    from keras_deeplab.options import options

    records = _records()
    rows = {name: SimpleNamespace(HELP="x", Arguments=row, run=lambda settings: 0) for name, row in records.items()}
    swap(cli, "COMMANDS", rows)
    words = ["1", "0", "-1", "513", "321x513", "0x0", "1e999", "nan", "0.5,2", "2,0.5", "a=b", "a=b=c", ",", "", " "]
    words += [
        "none",
        "on",
        "hf://a/b",
        "hf://",
        "é\udcff",
        "x" * 3000,
        "--",
        "-",
        "@x",
        "1,2,3",
        "1/2/3,4/5",
        "%s",
        "{x}",
    ]
    words += ["tf", "labels", "int8", "voc", "folder:.", "9" * 5000]

    def draw(random, below=False):
        name = random.choice(list(records))
        entries = options(records[name])
        flags = [entry.flag for entry in entries.values() if entry.flag]
        made = [name] if random.randrange(20) else [random.choice([name[:-1], "", "x", "--help "])]
        made += [random.choice(words) for entry in entries.values() if entry.flag is None]
        for _ in range(random.randrange(4)):
            flag = random.choice(flags or ["--x"])
            flag = flag if random.randrange(8) else changed_text(flag.encode(), random).decode("utf-8", "replace")
            made += [f"{flag}={random.choice(words)}"] if random.randrange(2) else [flag, random.choice(words)]
        return made

    def enter(words):
        told = io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            try:
                status = cli.main(words)
            except SystemExit as ended:
                status = ended.code
        assert status in (0, 1, 2), status
        assert status == 0 or "error: " in told.getvalue(), told.getvalue()
        if status:
            raise ValueError(told.getvalue())

    return Ready(draw, enter)


# Servers and clients --------------------------------------------------------------------------------------------------


class Replies:
    """A server on this machine that answers every connection with the same bytes."""

    def __init__(self):
        self.data = b""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self):
        with contextlib.suppress(OSError):  # when it is closed
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            asked = b""
            while b"\r\n\r\n" not in asked:
                part = connection.recv(1 << 16)
                if not part:
                    return
                asked += part
            head, _, body = asked.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            while len(body) < length:
                body += connection.recv(1 << 16)
            connection.sendall(self.data)


def client_calls(client, image):
    return [
        lambda: client.segment(image),
        lambda: client.segment_batch([image, image]),
        lambda: client.predict({"images": image[None]}),
        client.status,
        client.metadata,
        lambda: client.spec,
    ]


def rest_replies(folder, swap):
    """What a server answers to the client, over HTTP."""
    import base64

    from keras_deeplab.serving import Client

    replies = Replies()
    image = image_of(size=(6, 8))
    label = base64.b64encode(encoded(".png", image[..., 0] % 3)).decode()
    tensor = {"dtype": "DT_UINT8", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "6"}], "unknown_rank": False}}
    signature = {"inputs": {"images": tensor}, "outputs": {"labels": tensor}, "method_name": "predict"}
    metadata = {"signature_def": {"signature_def": {"serving_default": signature, "encoded": signature}}}
    bodies = [
        {"predictions": [{"b64": label}, {"b64": label}]},
        {"predictions": [{"labels_png_bytes": {"b64": label}}]},
        {"predictions": [[[0, 1], [1, 0]]]},
        {"predictions": [record().to_json()]},
        {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK"}}]},
        {"model_spec": {"name": "m", "version": "1"}, "metadata": metadata},
        {"error": "image_bytes[0] is no JPEG"},
    ]

    def draw(random, below=False):
        body = json.dumps(random.choice(bodies)).encode()
        if below:
            body = changed_json(body, random)
        status = random.choice([200] * 8 + [400, 404, 408, 429, 500, 503, 999])
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n"
        data = head.encode() + b"Retry-After: 0\r\nConnection: close\r\n\r\n" + body
        return (data if below else changed(data, random)), random.randrange(6)

    def enter(made):
        replies.data, call = made
        with Client(replies.address, "m", retries=0, timeout=5) as client:
            client_calls(client, image)[call]()

    return Ready(draw, enter, close=replies.close)


def grpc_replies(folder, swap):
    """What a server answers to the client, over gRPC."""
    from concurrent import futures

    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

    from keras_deeplab.serving import Client

    image = image_of(size=(6, 8))
    reply = predict_pb2.PredictResponse()
    reply.outputs["labels_png_bytes"].CopyFrom(tf.make_tensor_proto([encoded(".png", image[..., 0] % 3)] * 2))
    numbers = predict_pb2.PredictResponse()
    numbers.outputs["labels"].CopyFrom(tf.make_tensor_proto(image[None, ..., 0] % 3))
    status = get_model_status_pb2.GetModelStatusResponse()
    status.model_version_status.add(version=1, state=30)
    metadata = get_model_metadata_pb2.GetModelMetadataResponse()
    contents = [reply, numbers, status, metadata]
    contents = [message.SerializeToString() for message in contents]
    current = {}

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: current["data"])

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def draw(random, below=False):
        return changed(random.choice(contents), random), random.randrange(6)

    def enter(made):
        current["data"], call = made
        with Client(f"grpc://127.0.0.1:{port}", "m", retries=0, timeout=5) as client:
            client_calls(client, image)[call]()

    return Ready(draw, enter, close=lambda: server.stop(None))


def served_images(folder, swap):
    """Bytes of images in requests for a SavedModel, which refuses with TensorFlow's InvalidArgumentError."""
    import tensorflow as tf

    import keras_deeplab

    keras_deeplab.export_saved_model(tiny_model(), folder / "made", warmup_size=33, max_pixels=1 << 20)
    signature = tf.saved_model.load(str(folder / "made")).signatures["encoded"]
    contents = [encoded(end, image_of()) for end in (".jpg", ".png", ".bmp")]

    def draw(random, below=False):
        return [changed(random.choice(contents), random) if index == 0 else contents[1] for index in range(1 + below)]

    def enter(data):
        signature(image_bytes=tf.constant(data))

    return Ready(draw, enter, refusals=(tf.errors.InvalidArgumentError,), valid=contents)


def demo_requests(folder, swap):
    """Requests to the page's own server, which stays up and never leaves its folder."""
    from keras_deeplab.demo.server import make_server

    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("page")
    (folder / "page" / ".hidden").write_text("secret")
    (folder / "secret.txt").write_text("secret")
    (folder / "page" / "link.txt").symlink_to(folder / "secret.txt")
    server = make_server(folder / "page", port=0)
    faults = []
    server.handle_error = lambda request, address: faults.append(__import__("traceback").format_exc())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    targets = ["/", "/index.html", "/../secret.txt", "/link.txt", "/.hidden", "/%2e%2e/secret.txt", "/a\0b", "//x", "*"]
    hosts = [f"localhost:{port}", "127.0.0.1", "[::1]:8000", "evil.example", "localhost.evil.example", ""]

    def draw(random, below=False):
        method = random.choice(["GET", "GET", "HEAD", "POST", "X" * 100])
        host = random.choice(hosts)
        text = f"{method} {random.choice(targets)} HTTP/1.1\r\nHost: {host}\r\nRange: bytes=0-1\r\n"
        data = text.encode() + b"Connection: close\r\nIf-Modified-Since: Fri, 27 Nov 2026 00:00:00 GMT\r\n\r\n"
        return (changed_text if random.randrange(2) else changed)(data, random) if below else data, host

    def enter(made):
        data, host = made
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            reply = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(1 << 16):
                    reply += part
        assert not faults, faults
        assert b"secret" not in reply
        foreign = "evil" in host and f"Host: {host}\r\n".encode() in data
        assert not (foreign and data.lower().count(b"host:") == 1 and b"\r\n\r\npage" in reply), reply
        if not reply.startswith(b"HTTP/1.0 200"):
            raise ValueError(reply[:80])

    def close():
        server.shutdown()
        server.server_close()

    return Ready(draw, enter, close=close)


# The doors ------------------------------------------------------------------------------------------------------------

WEIGHTS = ("zip", "legacy", "safetensors", "h5", "keras", "weights.h5", "index", "v1", "tar.gz", "pb", "tflite", "onnx")

# Name -> function from a folder of its own, and one that sets an attribute for as long as the door is used
# (`setattr`, or pytest's `monkeypatch.setattr`), to the door.
DOORS: dict[str, Callable[[Path, Callable[..., None]], Ready]] = {
    **{
        f"weights: {format}": weights(format)
        for format in [
            "zip",
            "legacy",
            "safetensors",
            "h5",
            "keras",
            "weights.h5",
            "index",
            "v1",
            "tar.gz",
            "pb",
            "tflite",
            "onnx",
        ]
    },
    "weights: pickle": pickle_door,
    "weights: other endings": endings_door,
    "weights: descriptions beside": hub_door,
    "weights: transformers' folder": transformers_door,
    "weights: preset": preset_door,
    "weights: names and handles": names_door,
    "record: JSON": record_json,
    "record: SavedModel": record_saved_model,
    "record: TFLite": record_tflite,
    "record: ONNX": record_onnx,
    "run: TFLite": predictor_of("tflite"),
    "run: ONNX": predictor_of("onnx"),
    "run: SavedModel": predictor_of("saved_model"),
    **{f"image: {end[1:]}": images(end) for end in (".jpg", ".png", ".bmp", ".webp", ".tif", ".npy")},
    **{f"mask: {end[1:]}": masks(end) for end in (".png", ".palette.png", ".tif", ".gif", ".npy")},
    "image: in bands": rasters,
    "image: a folder of them": segment_folder,
    **{f"video: {end[1:]}": videos(end) for end in (".avi", ".mp4")},
    **{
        f"annotations: {name}": annotations(name)
        for name in ("coco", "labelme", "cvat", "roboflow", "supervisely", "label_studio")
    },
    "data: own folder": own_folder("numbers"),
    "data: own folder, colours": own_folder("colours"),
    "data: voc": voc,
    **{
        f"data: {name}": public(name)
        for name in ("sbd", "cityscapes", "ade20k", "camvid", "coco_stuff", "coco_stuff_10k", "oxford_pet")
    },
    "data: check-data": doctor,
    "data: TFRecord": tfrecords,
    "run's folder: report": run_report,
    "run's folder: resumed": run_resumed,
    "run's folder: many images": ledgers,
    "settings: CRF": crf_settings,
    "settings: models.config": serving_config,
    "arguments: builders": builders,
    "arguments: records": specs_in_python,
    "arguments: options": options_in_python,
    "arguments: command line": command_line,
    "server: REST replies": rest_replies,
    "server: gRPC replies": grpc_replies,
    "server: images in requests": served_images,
    "server: the demo's requests": demo_requests,
}


def outcome(ready, made):
    """What became of an input: ("accepted", ""), ("refused", error's name), or ("fault", what happened)."""
    import traceback

    try:
        ready.enter(made)
    except ready.refusals as error:
        wanted, told = ready.names(made), str(error)
        if not told.strip():
            return "fault", f"{type(error).__name__} without a message"
        if wanted and not any(name and name in told for name in wanted):
            return "fault", f"{type(error).__name__} that names nothing: {told[:300]}\n{traceback.format_exc()[-1500:]}"
        return "refused", type(error).__name__
    except Exception:
        return "fault", traceback.format_exc()[-2500:]
    return "accepted", ""
