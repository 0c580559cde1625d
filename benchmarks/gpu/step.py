"""Times a mixed-precision training step, and inference, of DeepLab v3+ with JAX beside PyTorch on one GPU.

    KERAS_BACKEND=jax python benchmarks/gpu/step.py                       # check, then all cells, interleaved
    KERAS_BACKEND=jax python benchmarks/gpu/step.py --device cpu --crop 65 --batch 2 --steps 2 --rounds 1    # a trial

Needs keras with JAX, PyTorch, and a GPU for both; no TensorFlow. Ours is the model as `keras_deeplab.DeepLabV3Plus`
builds it, compiled and fitted by Keras; the peer is the same network in PyTorch's layers with the same weights
(torch_network.py), channels last, under autocast and `torch.compile`. First the logits of both are compared in float32.
Each cell is a process of its own, so that neither holds the other's memory; rounds of the two alternate. Prints one
line a cell as Markdown: median milliseconds, ratio ours / PyTorch, images a second, and the share of the chip's peak at
`--peak` (dense bfloat16, teraflops): a step counts as three forward passes, two operations a multiply-add.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
CLASSES = 21


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default="resnet50,xception_65")
    parser.add_argument("--crop", type=int, default=513)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, help="timed, after as many untimed ones as take compiling")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--peak", type=float, default=989.0, help="teraflops; 989 is an H100's, dense, bfloat16")
    parser.add_argument("--compile", default="default", help="mode of torch.compile, or none")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        side, task, backbone = arguments.cell.split(":")
        print(json.dumps(SIDES[side](arguments, task, backbone)))
        return
    print(f"{arguments.crop}x{arguments.crop}, batch {arguments.batch}, {arguments.dtype}, {arguments.device}")
    print("| network | task | ours ms | PyTorch ms | ours / PyTorch | images/s | share of peak | PyTorch's |")
    print("|---|---|---|---|---|---|---|---|")
    for backbone in arguments.backbones.split(","):
        found = _run(arguments, "check", "logits", backbone)
        print(f"<!-- {backbone}: logits differ by {found['difference']:.1e} of their range -->", flush=True)
        for task in ("train", "infer"):
            times: dict[str, list[float]] = {"jax": [], "torch": []}
            for _ in range(arguments.rounds):
                for side in times:
                    times[side] += _run(arguments, side, task, backbone)["seconds"]
            ours, theirs = (sorted(times[side])[len(times[side]) // 2] for side in ("jax", "torch"))
            work = found["multiply_adds"] * 2 * arguments.batch * (3 if task == "train" else 1) / 1e12
            shares = [f"{work / seconds / arguments.peak:.1%}" for seconds in (ours, theirs)]
            print(
                f"| {backbone} | {task} | {1e3 * ours:.1f} | {1e3 * theirs:.1f} | {ours / theirs:.2f} | "
                f"{arguments.batch / ours:.1f} | {shares[0]} | {shares[1]} |",
                flush=True,
            )


def _run(arguments, side, task, backbone):
    words = [sys.executable, __file__, "--cell", f"{side}:{task}:{backbone}"]
    for name in ("crop", "batch", "steps", "dtype", "device", "compile"):
        words += [f"--{name}", str(getattr(arguments, name))]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if side != "jax" or arguments.device == "cpu":
        environment["JAX_PLATFORMS"] = "cpu"  # PyTorch has the GPU to itself
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side}, {task}, {backbone} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _model(backbone, crop):
    import keras

    import keras_deeplab

    keras.utils.set_random_seed(0)
    return keras_deeplab.DeepLabV3Plus(backbone, num_classes=CLASSES, input_shape=(crop, crop, 3))


def _batch(arguments):
    import numpy as np

    random = np.random.default_rng(0)
    shape = (arguments.batch, arguments.crop, arguments.crop)
    return random.integers(0, 256, (*shape, 3)).astype(np.float32), random.integers(0, CLASSES, shape).astype(np.int32)


def check(arguments, task, backbone):
    """Both networks' logits of one image in float32, with random statistics; a fresh network's are all but zero."""
    import numpy as np
    import torch
    from torch_network import Network

    import keras_deeplab

    model = _model(backbone, arguments.crop)
    random = np.random.default_rng(1)
    for layer in model.layers:
        values = layer.get_weights()
        if type(layer).__name__ == "BatchNormalization":
            spread = (random.uniform(0.5, 1.5, value.shape) for value in values)
            values = [value + noise - 1 if index < 3 else noise for index, (value, noise) in enumerate(zip(values, spread))]  # fmt: skip  # noqa: B905, E501
        layer.set_weights(values)
    image = _batch(arguments)[0][:1]
    ours = np.asarray(model(image, training=False))
    with torch.no_grad():
        theirs = Network(model).eval()(torch.from_numpy(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    difference = float(np.abs(ours - theirs).max() / (ours.max() - ours.min()))
    if not difference < 1e-4:
        raise SystemExit(f"the two networks are not one: logits differ by {difference:.1e} of their range")
    multiply_adds = keras_deeplab.multiply_adds(model, (arguments.crop, arguments.crop))
    return {"difference": difference, "multiply_adds": int(multiply_adds)}


def jax_side(arguments, task, backbone):
    import jax
    import keras
    import numpy as np

    from keras_deeplab.training.losses import SparseCategoricalCrossentropy

    if arguments.device == "gpu" and jax.devices()[0].platform == "cpu":
        raise SystemExit("JAX sees no GPU")
    policy = "float32" if arguments.dtype == "float32" else f"mixed_{arguments.dtype}"
    keras.config.set_dtype_policy(policy)
    model = _model(backbone, arguments.crop)
    images, labels = _batch(arguments)
    if task == "infer":
        state = [variable.value for variable in model.trainable_variables]
        rest = [variable.value for variable in model.non_trainable_variables]
        forward = jax.jit(lambda state, rest, x: model.stateless_call(state, rest, x, training=False)[0])
        images = jax.device_put(images)
        return {"seconds": _timed(lambda: forward(state, rest, images).block_until_ready(), arguments.steps)}
    model.compile(keras.optimizers.SGD(0.007, 0.9), SparseCategoricalCrossentropy())
    times: list[float] = []

    class Times(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            times.append((time.perf_counter() - self.began) / arguments.steps)

    def batches():
        while True:
            yield images, labels

    # One epoch to compile; the loss that its end reads waits for all of its steps.
    found = model.fit(batches(), steps_per_epoch=arguments.steps, epochs=3, callbacks=[Times()], verbose=0)
    if not np.isfinite(found.history["loss"][-1]):
        raise SystemExit(f"the loss is {found.history['loss']}")
    return {"seconds": times[1:]}


def torch_side(arguments, task, backbone):
    import torch
    from torch_network import Network

    device = "cuda" if arguments.device == "gpu" else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    network = Network(_model(backbone, arguments.crop)).to(device, memory_format=torch.channels_last)
    images, labels = _batch(arguments)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).to(device).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(labels).long().to(device)
    forward = network if arguments.compile == "none" else torch.compile(network, mode=arguments.compile)
    dtype = getattr(torch, arguments.dtype)
    cast = torch.autocast(device, dtype, enabled=arguments.dtype != "float32")

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    if task == "infer":
        network.eval()

        def infer():
            with torch.inference_mode(), cast:
                forward(images).float()
            wait()

        return {"seconds": _timed(infer, arguments.steps)}
    optimizer = torch.optim.SGD(network.parameters(), 0.007, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    scaler = torch.amp.GradScaler(device, enabled=arguments.dtype == "float16")

    def step():
        optimizer.zero_grad(set_to_none=True)
        with cast:
            logits = forward(images)
        scaler.scale(criterion(logits.float(), labels)).backward()
        scaler.step(optimizer)
        scaler.update()

    for _ in range(3):
        step()
    times = []
    for _ in range(2):  # whole runs of steps, as on the other side: the queue is waited for once
        wait()
        began = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        wait()
        times.append((time.perf_counter() - began) / arguments.steps)
    return {"seconds": times}


def _timed(call, steps):
    for _ in range(3):
        call()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


SIDES = {"check": check, "jax": jax_side, "torch": torch_side}

if __name__ == "__main__":
    main()
