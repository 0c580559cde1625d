"""How the public repositories build DeepLab's heads, where they differ and weights alone don't absorb it."""

from dataclasses import dataclass, replace

from keras_deeplab.layers import convention
from keras_deeplab.registry import Registry


@dataclass(frozen=True)
class Flavour:
    """One repository's choices, all of them properties of its checkpoints.

    `align_corners` and `half_pixel_centers`: convention of every bilinear resize, as `ResizeBilinear` takes them.
    `separable`: whether v3+'s 3x3 convolutions are depthwise separable (v3's are dense everywhere),
    `separable_norm`: whether batch norm and activation stand between their two halves. `head_conv`: a 3x3
    convolution between v3's pyramid and its classifier. `aspp_conv`: a 3x3 convolution between v3+'s pyramid and
    its decoder. `decoder_convs`: how many 3x3 convolutions the decoder has, `decoder_dropouts`: the rates of the
    dropouts behind them. `use_bias`: whether convolutions before batch norm have a bias. `dropout`: rate behind the
    pyramid. `atrous_rates`: the pyramid's rates at every output stride; None where they go with it. `strided_rate`:
    as `keras_deeplab.atrous` takes it, for backbones that were published with both. `activation`: of all
    convolutions, `epsilon`: of their batch norms. `kernel_size`: of the convolutions behind the pyramid, the head's and
    the decoder's. `head_stride`: the stride that v3's pyramid is resized to before them; None for its own.
    `logits_bias`: whether the classifier has a bias. `windowed_gate`: whether lite R-ASPP's gate is made of large
    windows' means by a quantised sigmoid, or of the whole image's mean by a plain one.
    """

    align_corners: bool
    half_pixel_centers: bool | None = None
    separable: bool = False
    separable_norm: bool = True
    head_conv: bool = False
    aspp_conv: bool = False
    decoder_convs: int = 2
    decoder_dropouts: tuple[float, ...] = ()
    use_bias: bool = False
    dropout: float = 0.1
    atrous_rates: tuple[int, ...] | None = None
    strided_rate: str | None = None
    activation: str = "relu"
    epsilon: float = 1e-5
    kernel_size: int = 3
    head_stride: int | None = None
    logits_bias: bool = True
    windowed_gate: bool = True

    @property
    def resize(self) -> str:
        """The name of the convention."""
        return convention(self.align_corners, self.half_pixel_centers)


_TF = Flavour(align_corners=True, separable=True)
_SMP = Flavour(
    align_corners=True,
    separable=True,
    separable_norm=False,
    head_conv=True,
    aspp_conv=True,
    decoder_convs=1,
    dropout=0.5,
    atrous_rates=(12, 24, 36),
    strided_rate="new",
)

FLAVOURS: Registry[Flavour] = Registry(
    "flavour",
    {
        # research/deeplab/model.py; "tf_bounded" with --use_bounded_activation.
        "tf": _TF,
        "tf_bounded": replace(_TF, activation="relu6"),
        # The same with TensorFlow 1's own default of a resize, as TFLite files for NNAPI before 1.3 have it.
        "tf_asymmetric": replace(_TF, align_corners=False, half_pixel_centers=False),
        "tf_bounded_asymmetric": replace(_TF, align_corners=False, half_pixel_centers=False, activation="relu6"),
        # bonlime/keras-deeplab-v3-plus, model.py: its resize became half-pixel, its weights are research/deeplab's.
        "bonlime": replace(_TF, align_corners=False),
        # VainF/DeepLabV3Plus-Pytorch, network/_deeplab.py; "vainf_separable" after its convert_to_separable_conv.
        "vainf": Flavour(align_corners=False, head_conv=True, decoder_convs=1),
        "vainf_separable": Flavour(
            align_corners=False, head_conv=True, decoder_convs=1, separable=True, separable_norm=False
        ),
        # torchvision/models/segmentation/deeplabv3.py and lraspp.py
        "torchvision": Flavour(
            align_corners=False, head_conv=True, dropout=0.5, atrous_rates=(12, 24, 36), windowed_gate=False
        ),
        # jfzhang95/pytorch-deeplab-xception, modeling/{aspp,decoder}.py
        "jfzhang95": Flavour(align_corners=True, dropout=0.5, decoder_dropouts=(0.5, 0.1), strided_rate="new"),
        # kazuto1011/deeplab-pytorch, libs/models/deeplabv3{,plus}.py
        "kazuto1011": Flavour(align_corners=False, dropout=0.0),
        # fregu856/deeplabv3, model/aspp.py
        "fregu856": Flavour(
            align_corners=False, use_bias=True, dropout=0.0, atrous_rates=(6, 12, 18), strided_rate="new"
        ),
        # transformers: models/mobilenet_v2 and models/mobilevit; logits are resized by its processors.
        "transformers": Flavour(align_corners=False),
        # keras-hub: models/deeplab_v3/deeplab_v3_{backbone,layers,segmenter}.py
        "keras_hub": Flavour(
            align_corners=False,
            head_conv=True,
            decoder_convs=1,
            dropout=0.0,
            epsilon=1e-3,
            kernel_size=1,
            head_stride=4,
            logits_bias=False,
        ),
        # segmentation_models_pytorch/decoders/deeplabv3/decoder.py; "smp_tu" on its encoders tu-*, which timm dilates.
        "smp": _SMP,
        "smp_tu": replace(_SMP, strided_rate="old"),
    },
)
