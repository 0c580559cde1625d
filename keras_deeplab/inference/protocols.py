"""How the papers and their code bases score a model, by name, and what of a sample is scored.

A protocol is nothing of its own: a name for values of options, with the file or paper that they were read in. Those
that change the image and its mask before anything is put to the model are `ScoringOptions`; they are of `evaluate`
alone, because labels of a part of an image, or of another size, are no answer to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_deeplab.inference.settings import InferenceOptions
from keras_deeplab.options import Options, Preset, Size, nested, option, options, record
from keras_deeplab.registry import Registry

if TYPE_CHECKING:
    import numpy as np

SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
THREE_SCALES = (0.75, 1.0, 1.25)


@dataclass(frozen=True)
class Protocol:
    """A way to score a model.

    Attributes:
        options: values of `EvaluationOptions`, by their own names; the others have their defaults.
        source: the file or paper that has it.
        note: what else is to be known of it, "" for nothing.
    """

    options: Mapping[str, Any]
    source: str
    note: str = ""


# Name -> protocol; another one is a row here.
PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    whole=Protocol({}, "every image at its own size; VainF/DeepLabV3Plus-Pytorch main.py without --crop_val"),
    tf1_voc=Protocol(
        {"input_size": 513, "output_stride": 16},
        "tensorflow/models research/deeplab eval.py and g3doc/pascal.md: eval_crop_size 513,513, output_stride 16",
    ),
    tf1_voc_multi_scale=Protocol(
        {"input_size": 513, "output_stride": 8, "scales": SIX_SCALES, "flip": True},
        "tensorflow/models research/deeplab eval.py and g3doc/model_zoo.md: output stride 8, scales 0.5:0.25:1.75, "
        "mirrored; arXiv 1706.05587, section 4.1, and 1802.02611, table 5",
    ),
    tf1_cityscapes=Protocol(
        {"input_size": (1025, 2049), "output_stride": 16},
        "tensorflow/models research/deeplab g3doc/cityscapes.md: eval_crop_size 1025,2049, output_stride 16",
    ),
    tf1_cityscapes_multi_scale=Protocol(
        {"input_size": (1025, 2049), "output_stride": 8, "scales": THREE_SCALES, "flip": True},
        "tensorflow/models research/deeplab g3doc/model_zoo.md: output stride 8, scales 0.75:0.25:1.25, mirrored",
    ),
    vainf_voc=Protocol(
        {"sample_side": 513, "centre_crop": 513},
        "VainF/DeepLabV3Plus-Pytorch main.py --crop_val: ExtResize(513), ExtCenterCrop(513) of image and mask",
        "pixels outside of the centre are not scored, and masks are scaled",
    ),
    torchvision=Protocol(
        {"sample_side": 520},
        "pytorch/vision references/segmentation presets.py, SegmentationPresetEval: RandomResize(520, 520) of image "
        "and mask",
        "masks are scaled, and scored at that size",
    ),
    mmseg_voc=Protocol(
        {"shorter_side": 512, "longer_side": 2048},
        "open-mmlab/mmsegmentation configs/_base_/datasets/pascal_voc12.py: Resize(2048, 512) with keep_ratio, test "
        "mode whole",
    ),
    mmseg_voc_multi_scale=Protocol(
        {"shorter_side": 512, "longer_side": 2048, "scales": SIX_SCALES, "flip": True},
        "open-mmlab/mmsegmentation configs/_base_/datasets/pascal_voc12.py of 0.x: MultiScaleFlipAug(2048, 512) with "
        "its img_ratios, mirrored",
        "there each scale is made of the photograph, here of the image that was scaled to 512",
    ),
    mmseg_cityscapes_slide=Protocol(
        {"windows": 769, "window_stride": 513},
        "open-mmlab/mmsegmentation configs/deeplabv3plus/*_cityscapes-769x769.py: slide, crop_size 769, stride 513",
    ),
    kazuto1011_voc_crf=Protocol(
        {"crf": "v2_resnet101:symmetric"},
        "kazuto1011/deeplab-pytorch main.py test and crf, configs/voc12.yaml: whole images, softmax at their size, "
        "pydensecrf with 10 iterations; DeepLab v2, arXiv 1606.00915, section 4.1.2",
        "there the CRF sees pixels less their mean, cast to bytes; here the photograph",
    ),
)


@record
class ScoringOptions(Options):
    """What of a sample is scored: the whole image at its own size, unless these say otherwise."""

    TITLE = "how it is scored"

    protocol: str | None = option(
        None,
        "a protocol by name, which gives the options of this group and the one below; those given beside it count",
        choices=PROTOCOLS,
        metavar="NAME",
    )
    sample_side: int | None = option(
        None,
        "what the shorter side of image and mask is scaled to before anything else; scored at that size",
        minimum=1,
    )
    centre_crop: Size | None = option(
        None, "the part in the middle of image and mask that is scored; what is around it is left out"
    )

    @classmethod
    def preset_for(cls, given: Mapping[str, Any]) -> Preset | None:
        name = given.get("protocol")
        return None if name is None else Preset(name, PROTOCOLS[name].options)

    def sample(self, image: "np.ndarray", label: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
        """A sample as it is in the data to what is scored of it.

        Args:
            image: uint8 (H, W, channels).
            label: integers (H, W).
        """
        from keras_deeplab.inference.samples import centre, scaled_sample

        if self.sample_side is not None:
            image, label = scaled_sample(image, label, self.sample_side)
        if self.centre_crop is not None:
            image, label = (centre(each, self.centre_crop) for each in (image, label))
        return image, label

    def told(self) -> tuple[str, ...]:
        """What `sample` does, in phrases."""
        parts = []
        if self.sample_side is not None:
            parts.append(f"sample scaled to a shorter side of {self.sample_side} (mask too)")
        if self.centre_crop is not None:
            parts.append(f"cut to its centre of {self.centre_crop[0]}x{self.centre_crop[1]} (mask too)")
        return tuple(parts)


@record
class EvaluationOptions(Options):
    """All options that a score depends on beside the model and the data."""

    scoring: ScoringOptions = nested(ScoringOptions)
    inference: InferenceOptions = nested(InferenceOptions)

    @property
    def name(self) -> str:
        """What the protocol is called: its name, which says so where options beside it changed it; "" without one."""
        protocol = self.scoring.protocol
        if protocol is None:
            return ""
        known, mine = options(EvaluationOptions), self.values()
        expected = {name: entry.usual() for name, entry in known.items()}
        expected |= {name: known[name].check(value) for name, value in PROTOCOLS[protocol].options.items()}
        counts = [name for name, entry in known.items() if entry.configuration and name != "protocol"]
        changed = [name for name in counts if mine[name] != expected[name]]
        return f"{protocol}, changed ({', '.join(changed)})" if changed else protocol
