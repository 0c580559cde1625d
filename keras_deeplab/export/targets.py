"""What runs TFLite files, a row each: what a file for it returns and takes, and which operators it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from keras_deeplab._helpers.warning import warn
from keras_deeplab.metadata import mediapipe
from keras_deeplab.registry import Registry
from keras_deeplab.specs import FileSpec, ModelSpec

_FLOAT = ("float16", "float32")
_EVERY = (*_FLOAT, "dynamic", "int8_weights", "int8", "int16x8")

# coral.ai, "TensorFlow models on the Edge TPU", without SOFTMAX, which it has for a vector alone.
_EDGE_TPU = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC
    MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE
    SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
"""
# delegates/gpu/common/model_builder.cc of TensorFlow Lite; DEQUANTIZE is that of float16 kernels, which it leaves out.
_GPU = """
    ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU EXP
    FULLY_CONNECTED HARD_SWISH LEAKY_RELU LOG LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG PACK PAD
    POW PRELU REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SIN
    SLICE SOFTMAX SPACE_TO_DEPTH SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE
    TRANSPOSE_CONV
"""


@dataclass(frozen=True)
class Target:
    """What runs a file.

    Attributes:
        title: what it is called in messages.
        arguments: {argument of `export_tflite`: the values that it may have}; the first is taken where none is given.
            `output_type` is that of an int8 file's scores.
        one_size: whether a file must be of one size of images.
        operators: names of the TFLite operators that it has; None for all but custom ones.
        integer: whether operators in floating point are none of them.
        two_scores: whether a binary model gets a score for each of its two labels.
        misread: a file's record to why it would be taken for something else, or None.
        caution: a file's record to what whoever exports it has to know, or None.
    """

    title: str
    arguments: Mapping[str, tuple]
    one_size: bool = False
    operators: frozenset[str] | None = None
    integer: bool = False
    two_scores: bool = False
    misread: Callable[[FileSpec], str | None] = lambda record: None
    caution: Callable[[FileSpec], str | None] = lambda record: None

    def settled(self, **given: Any) -> dict[str, Any]:
        """Arguments of `export_tflite` with this target's own in place of None.

        Raises:
            ValueError: one has a value that this target doesn't take.
        """
        if given.get("output") == "labels" and self.operators is not None and "ARG_MAX" not in self.operators:
            raise ValueError(
                f"{self.title} has no ARG_MAX, and labels come from one: leave output= (--output-kind) out, "
                f"which gives {self.arguments['output'][0]}, and take the argmax where the file is used"
            )
        for name, allowed in self.arguments.items():
            if name not in given:
                continue
            if name == "output_type" and (given["precision"] != "int8" or given["output"] == "labels"):
                continue
            if given[name] is None:
                given[name] = allowed[0]
            if given[name] not in allowed:
                raise ValueError(
                    f"{self.title} takes {name} {' or '.join(map(repr, allowed))}; received {given[name]!r}. Leave it "
                    "out, or leave target= (--for) out for a file that suits nothing in particular"
                )
        return given

    def check_sizes(self, sizes: list) -> None:
        """Raises ValueError for other sizes of images, as `input_sizes` gives them, than a file for it can have."""
        if self.one_size and len(sizes) != 1:
            raise ValueError(
                f"{self.title} takes files of one size of images; received "
                f"{', '.join(f'{height}x{width}' for height, width in sizes) or 'dynamic'}: give one input_size "
                "(--input-size)"
            )

    def spec(self, spec: ModelSpec) -> ModelSpec:
        """What a model is to what a file of it is for this target."""
        return replace(spec, num_classes=2, activation=None) if self.two_scores and spec.binary else spec

    def check_file(self, record: FileSpec, operators: Mapping[str, int], floating: tuple) -> None:
        """Raises ValueError for a file that this target doesn't run, or takes for something else.

        Args:
            record: of the file.
            operators: the names of its operators, and how many of each there are.
            floating: the names of those that compute in floating point.
        """
        reason = self.misread(record)
        if reason is not None:
            raise ValueError(f"a file for {self.title} can't be made of this model: {reason}. No file was written")
        caution = self.caution(record)
        if caution is not None:
            warn(f"{self.title}: {caution}")
        missing = {
            name: count
            for name, count in operators.items()
            if (name == "CUSTOM" if self.operators is None else name not in self.operators)
        }
        where = ""
        if self.integer and not missing and floating:
            missing = {name: floating.count(name) for name in dict.fromkeys(floating)}
            where = " in floating point"
        if missing:
            raise ValueError(
                f"{self.title} has no {', '.join(f'{name} ({count})' for name, count in missing.items())}{where}, "
                "which the file would have: from there on it would leave the network to the CPU. No file was written. "
                "Take a network without them, or leave target= (--for) out"
            )


# Android's, iOS's and MediaPipe's interpreters have every builtin operator; the rows differ in types.
TARGETS: Registry[Target] = Registry(
    "target",
    {
        "mediapipe": Target(
            "MediaPipe Tasks",
            {
                "precision": _EVERY,
                "output": ("logits", "probabilities"),
                "upsample": (True,),
                "input_type": ("float32", "uint8"),
                "output_type": ("float32",),
            },
            one_size=True,
            two_scores=True,
            misread=mediapipe.misread,
            caution=mediapipe.caution,
        ),
        "android": Target(
            "LiteRT on Android",
            {
                "precision": _EVERY,
                "output": ("labels", "logits", "probabilities"),
                "upsample": (True, False),
                "input_type": ("uint8", "float32", "int8"),
                "output_type": ("float32", "int8", "uint8"),
            },
        ),
        # TensorFlowLiteSwift's Tensor.DataType has no int8.
        "ios": Target(
            "LiteRT on iOS",
            {
                "precision": _EVERY,
                "output": ("labels", "logits", "probabilities"),
                "upsample": (True, False),
                "input_type": ("uint8", "float32"),
                "output_type": ("float32", "uint8"),
            },
        ),
        # Its compiler leaves out large resizes, and all that follows the first operator which it leaves out.
        "edgetpu": Target(
            "the Edge TPU",
            {
                "precision": ("int8",),
                "output": ("logits",),
                "upsample": (False, True),
                "input_type": ("uint8", "int8"),
                "output_type": ("int8", "uint8"),
            },
            one_size=True,
            operators=frozenset(_EDGE_TPU.split()),
            integer=True,
        ),
        "gpu": Target(
            "LiteRT's GPU delegate",
            {
                "precision": _FLOAT,
                "output": ("logits", "probabilities"),
                "upsample": (True, False),
                "input_type": ("float32",),
            },
            one_size=True,
            operators=frozenset(_GPU.split()),
        ),
    },
)
# Where no target is given.
_USUAL = {"precision": "float32", "output": "labels", "upsample": True}


def settled(target: str | None, **given: Any) -> dict[str, Any]:
    """Arguments of `export_tflite` with a target's own, or the usual ones, in place of None.

    Raises:
        ValueError: there is no such target, or one has a value that it doesn't take.
    """
    if target is None:
        return {name: _USUAL.get(name) if value is None else value for name, value in given.items()}
    return TARGETS[target].settled(**given)
