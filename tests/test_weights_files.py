"""Real files of every kind, as their own libraries write them, load into the model that their mapping makes."""

import argparse
import tarfile
from collections import defaultdict
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import weight_files
from randomise import randomise
from test_weights_tf1 import write as write_tf1

import keras_deeplab
from keras_deeplab.backbones.mobilenet_v2 import (
    mobilenet_v2,
    mobilenet_v2_jfzhang95,
    mobilenet_v2_torchvision,
    mobilenet_v2_vainf,
)
from keras_deeplab.backbones.mobilenet_v3 import mobilenet_v3_large
from keras_deeplab.export import weights as export
from keras_deeplab.weights import bonlime, jfzhang95, kazuto1011, smp, torchvision, vainf
from keras_deeplab.weights.names import KERAS, TORCH, rows, their_name
from keras_deeplab.weights.plan import Plan, all_layers

X = np.random.default_rng(0).uniform(0, 255, (1, 49, 65, 3)).astype("float32")
SMALL = {"num_classes": 3, "filters": 4}
# The image-level feature comes last in torch's pyramids; VainF's decoder has the finer map first.
POOLING_LAST = {"concat_projection": ((4,) * 5, (4, 0, 1, 2, 3))}


def plan(names, dialect=TORCH, **settings):
    return Plan("", None, names, dialect, **settings)


def vainf_network():
    model = keras_deeplab.DeepLabV3Plus(mobilenet_v2_vainf(alpha=0.1), flavour="vainf", low_level_filters=3, **SMALL)
    names = rows(vainf._MOBILENET_V2, "backbone.") + rows(vainf.ASPP, "classifier.aspp.")
    names += rows(vainf._V3_PLUS, "classifier.")
    return model, plan(names, blocks={**POOLING_LAST, "decoder_conv0": ((3, 4), (1, 0))}), {}


def torchvision_network():
    model = keras_deeplab.DeepLabV3(mobilenet_v3_large(alpha=0.35), flavour="torchvision", **SMALL)
    names = rows(torchvision.MOBILENET_V3, "backbone.") + rows(torchvision.ASPP, "classifier.0.")
    return model, plan(names + rows(torchvision._HEAD), blocks=POOLING_LAST), {}


def jfzhang95_network():
    model = keras_deeplab.DeepLabV3Plus(mobilenet_v2_jfzhang95(alpha=0.25), flavour="jfzhang95", **SMALL)
    names = rows(jfzhang95.MOBILENET_V2, "backbone.") + rows(jfzhang95._HEAD)
    return model, plan(names, blocks=POOLING_LAST), {"half": "features"}


def kazuto1011_network():
    model = keras_deeplab.DeepLabV1("resnet50_caffe", num_classes=3, variant=None, align_corners=False)
    return model, plan(rows(kazuto1011.RESNET) + rows(kazuto1011._V1)), {}


def smp_network():
    model = keras_deeplab.DeepLabV3Plus(mobilenet_v2_torchvision(alpha=0.1), flavour="smp", **SMALL)
    names = rows(torchvision.MOBILENET_V2, "encoder.features.") + rows(smp._ASPP_SEPARABLE, "decoder.aspp.0.")
    return model, plan(names + rows(smp._V3_PLUS), blocks=POOLING_LAST), {}


def google_network():
    model = keras_deeplab.DeepLabV3(mobilenet_v2(alpha=0.1), **SMALL)
    return model, None, {}


def bonlime_network():
    model = keras_deeplab.DeepLabV3(mobilenet_v2(alpha=0.1), flavour="bonlime", **SMALL)
    return model, plan(bonlime._MOBILENET_V2 + bonlime._HEAD, KERAS), {"custom": ""}


NETWORKS = {
    "vainf": vainf_network,
    "torchvision": torchvision_network,
    "jfzhang95": jfzhang95_network,
    "kazuto1011": kazuto1011_network,
    "smp": smp_network,
    "tf1": google_network,
    "bonlime": bonlime_network,
}


@pytest.fixture(scope="module")
def checkpoint():
    """Function from a source to ({name: array} of a small network of it, the network's logits), made once."""
    made = {}

    def make(source):
        if source not in made:
            model, naming, constants = NETWORKS[source]()
            randomise(model)
            if source == "tf1":
                state = export.state_dict(model, "tf1")
            else:
                layers = {layer.name: layer for layer in all_layers(model)}
                state = {
                    their_name(v.path, naming.rows, naming.dialect, **constants): np.ascontiguousarray(
                        naming.arrange(v.numpy(), v, layers, back=True)
                    )
                    for v in model.weights
                }
                if naming.dialect is TORCH:
                    counters = [name for name in state if name.endswith("running_mean")]
                    state |= {name[:-12] + "num_batches_tracked": np.int64(9) for name in counters}
                if source == "jfzhang95":  # its network has each block under two names
                    for name, array in list(state.items()):
                        half = "low" if any(f".features.{block}." in name for block in range(4)) else "high"
                        state[name.replace(".features.", f".{half}_level_features.")] = array
            made[source] = state, logits_of(model)
        return made[source]

    yield make
    keras.backend.clear_session()


def logits_of(model):
    return keras.ops.convert_to_numpy(model(X, training=False))


def assert_loads(path, checkpoint, source, **settings):
    if source == "smp":  # a warning tells of what nothing tells
        told = {"output_stride": 16, "atrous_rates": (12, 24, 36), "include_preprocessing": "torch"}
        settings = {**told, **settings}
    np.testing.assert_array_equal(logits_of(keras_deeplab.load(path, **settings)), checkpoint(source)[1])


# PyTorch --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def ordered(torch, state):
    """As `Module.state_dict()` returns it, with its table of versions."""
    module = torch.nn.Conv2d(1, 1, 1)
    tensors = module.state_dict()
    for name in list(tensors):
        del tensors[name]
    made = {id(array): torch.from_numpy(np.array(array)) for array in state.values()}
    tensors.update({name: made[id(array)] for name, array in state.items()})
    return tensors


def optimizer_state(torch, tensors):
    """The state of an optimizer after a step with the first few of the tensors."""
    parameters = [tensor.clone().requires_grad_() for tensor in list(tensors.values())[:3]]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def plain(torch, tensors):
    return tensors


def vainf_training(torch, tensors):
    """As VainF's main.py saves it."""
    scheduler = {"max_iters": 30000, "power": 0.9, "base_lrs": [0.001, 0.01], "last_epoch": 7}
    return {
        "cur_itrs": 7,
        "model_state": tensors,
        "optimizer_state": optimizer_state(torch, tensors),
        "scheduler_state": scheduler,
        "best_score": np.float64(0.7),
    }


def torchvision_training(torch, tensors):
    """As references/segmentation/train.py of torchvision saves it, trained on several devices."""
    return {
        "model": type(tensors)((f"module.{name}", tensor) for name, tensor in tensors.items()),
        "optimizer": optimizer_state(torch, tensors),
        "lr_scheduler": {"last_epoch": 3, "_last_lr": [0.01]},
        "epoch": 3,
        "args": argparse.Namespace(dataset="coco", lr=0.01, output_dir=Path("runs"), device=torch.device("cpu")),
        "scaler": {"scale": 65536.0, "growth_tracker": 3},
    }


def lightning_training(torch, tensors):
    """As PyTorch Lightning saves a module that has the network as its attribute `model`."""
    history = defaultdict(list)
    history["loss"].append(0.5)
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": type(tensors)((f"model.{name}", tensor) for name, tensor in tensors.items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "dirpath": "runs"}},
        "optimizer_states": [optimizer_state(torch, tensors)],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"arch": "DeepLabV3Plus", "classes": {1, 2}, "history": history, "mean": torch.Size([3])},
    }


def jfzhang95_training(torch, tensors):
    """As jfzhang95's train.py saves it."""
    optimizer = optimizer_state(torch, tensors)
    return {"epoch": 5, "state_dict": tensors, "optimizer": optimizer, "best_pred": torch.tensor(0.5)}


def channels_last(torch, tensors):
    """Kernels that lie in memory in another order of axes, one as a parameter that was being trained."""
    for name, tensor in tensors.items():
        if tensor.ndim == 4:
            tensors[name] = tensor.to(memory_format=torch.channels_last)
    tensors["segmentation_head.0.weight"] = torch.nn.Parameter(tensors["segmentation_head.0.weight"])
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "wrapper", "legacy"),
    [
        ("vainf", vainf_training, False),
        ("vainf", vainf_training, True),
        ("torchvision", torchvision_training, False),
        ("jfzhang95", jfzhang95_training, True),
        ("smp", lightning_training, False),
        ("smp", lightning_training, True),
        ("kazuto1011", plain, False),
        ("smp", channels_last, False),
        ("smp", channels_last, True),
    ],
)
def test_a_file_of_pytorch_loads(source, wrapper, legacy, checkpoint, torch, tmp_path):
    path = tmp_path / "checkpoint.pth"
    saved = wrapper(torch, ordered(torch, checkpoint(source)[0]))
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    assert_loads(path, checkpoint, source)


@pytest.mark.slow
def test_a_whole_pickled_module_is_refused_by_name(checkpoint, torch, tmp_path):
    tensors = ordered(torch, checkpoint("smp")[0])
    torch.save({"state_dict": tensors, "other": torch.nn.Sequential(torch.nn.ReLU())}, tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"whole\.pth.*Sequential"):
        keras_deeplab.load(tmp_path / "whole.pth")


# Safetensors and Keras ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_safetensors_file_loads(checkpoint, tmp_path):
    path = tmp_path / "model.safetensors"
    arrays = {name: array for name, array in checkpoint("smp")[0].items() if array.ndim}
    path.write_bytes(weight_files.safetensors(arrays, __metadata__={"format": "pt"}))
    assert_loads(path, checkpoint, "smp")


@pytest.mark.slow
@pytest.mark.parametrize("group", ["/", "model_weights"])
def test_a_file_of_keras_2_loads(group, checkpoint, tmp_path):
    """bonlime's, saved as weights or as a whole model."""
    groups = {"input_1": {}}
    for name, array in checkpoint("bonlime")[0].items():
        groups.setdefault(name.rpartition("/")[0], {})[f"{name}:0"] = array
    path = tmp_path / "deeplabv3_mobilenetv2.h5"
    weight_files.keras_2_h5(path, groups, group=group)
    assert_loads(path, checkpoint, "bonlime")


# TensorFlow 1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_a_checkpoint_of_tensorflow_1_loads(version, checkpoint, tmp_path):
    state = {**checkpoint("tf1")[0], "global_step": np.int64(30000)}
    state["MobilenetV2/Conv/weights/Momentum"] = np.zeros((3, 3, 3, 8), "float32")
    assert_loads(write_tf1(state, tmp_path / "train", version=version), checkpoint, "tf1")


@pytest.fixture(scope="module")
def frozen_graph(checkpoint, tmp_path_factory):
    """Variables in a graph of TensorFlow 1 that computes with them, frozen by TensorFlow."""
    v1, state = tf.compat.v1, checkpoint("tf1")[0]
    with tf.Graph().as_default() as graph, v1.Session() as session:
        image = v1.placeholder("uint8", (1, None, None, 3), name="ImageTensor")
        total = v1.reduce_mean(tf.cast(image, "float32"))
        for name, array in state.items():
            variable = v1.get_variable(name, initializer=array, use_resource=False)
            total = v1.add(total, v1.reduce_sum(variable), name=f"{name}/used")
        v1.identity(total, name="SemanticPredictions")
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["SemanticPredictions"])
    path = tmp_path_factory.mktemp("frozen") / "frozen_inference_graph.pb"
    path.write_bytes(frozen.SerializeToString())
    return path


@pytest.mark.slow
def test_a_frozen_graph_loads(frozen_graph, checkpoint):
    assert_loads(frozen_graph, checkpoint, "tf1")


@pytest.mark.slow
def test_an_archive_with_nothing_but_a_frozen_graph_loads(frozen_graph, checkpoint, tmp_path):
    """As Google's archives of its quantised and its smallest models are."""
    path = tmp_path / "deeplabv3_mnv2.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(frozen_graph, f"deeplabv3_mnv2/{frozen_graph.name}")
    assert_loads(path, checkpoint, "tf1")
