"""transformers' `MobileViTForSemanticSegmentation` and `MobileViTV2ForSemanticSegmentation`: DeepLab v3 on MobileViT.

Source: models/mobilevit and models/mobilevitv2, their modeling_*.py and configuration_*.py.
"""

from types import SimpleNamespace

from keras_deeplab.networks import V3, network
from keras_deeplab.weights.hub_configs import ACTIVATIONS, Processor, theirs
from keras_deeplab.weights.names import rows
from keras_deeplab.weights.plan import torch_head

_PROCESSOR = Processor(
    "MobileViT",
    normalises=None,
    flips=True,
    size={"shortest_edge": 544},
    crop={"height": 512, "width": 512},
    resample=3,
)
_PARTS = [("expand_1x1", "expand"), ("conv_3x3", "depthwise"), ("reduce_1x1", "project")]
# stages of inverted residuals count from 0 there
_CONVOLUTIONS = [
    ("conv_stem", "conv_stem"),
    *(
        (f"encoder.layer.{{stage:0-1}}.layer.{{unit}}.{part}", f"layer{{stage+1}}_{{unit}}_{ours}")
        for part, ours in _PARTS
    ),
    *(
        (f"encoder.layer.{{stage:2-4}}.downsampling_layer.{part}", f"layer{{stage+1}}_downsample_{ours}")
        for part, ours in _PARTS
    ),
    ("encoder.layer.{stage:2-4}.conv_projection", "layer{stage+1}_conv_projection"),
]
_HEAD = [
    ("aspp.convs.0.convolution", "aspp.convs.0.normalization", "aspp0"),
    ("aspp.convs.{branch:1-3}.convolution", "aspp.convs.{branch:1-3}.normalization", "aspp{branch}"),
    ("aspp.convs.4.conv_1x1.convolution", "aspp.convs.4.conv_1x1.normalization", "image_pooling"),
    ("aspp.project.convolution", "aspp.project.normalization", "concat_projection"),
    ("classifier.convolution", None, "logits"),
]


def _rows(scope, convolutions, others):
    convolutions = [(f"{each}.convolution", f"{each}.normalization", ours) for each, ours in convolutions]
    stage, ours = "encoder.layer.{stage:2-4}.", "layer{stage+1}_"
    others = [(stage + name, None, ours + layer) for name, layer in others]
    return tuple(rows(convolutions + others, f"{scope}.") + rows(_HEAD, "segmentation_head."))


_LAYER, _OURS = "transformer.layer.{n}.", "transformer{n}_"
_ROWS = _rows(
    "mobilevit",
    [
        *_CONVOLUTIONS,
        ("encoder.layer.{stage:2-4}.conv_kxk", "layer{stage+1}_conv_kxk"),
        ("encoder.layer.{stage:2-4}.fusion", "layer{stage+1}_fusion"),
    ],
    [
        ("conv_1x1.convolution", "conv_1x1"),
        ("layernorm", "LN"),
        (f"{_LAYER}layernorm_{{place:before|after}}", f"{_OURS}{{place}}_LN"),
        (f"{_LAYER}attention.attention.{{part:query|key|value}}", f"{_OURS}{{part}}"),
        (f"{_LAYER}attention.output.dense", f"{_OURS}attention_output"),
        (f"{_LAYER}intermediate.dense", f"{_OURS}intermediate"),
        (f"{_LAYER}output.dense", f"{_OURS}output"),
    ],
)
_ROWS_V2 = _rows(
    "mobilevitv2",
    [*_CONVOLUTIONS, ("encoder.layer.{stage:2-4}.conv_kxk", "layer{stage+1}_conv_kxk_depthwise")],
    [
        ("conv_1x1.convolution", "conv_1x1"),
        ("layernorm", "LN"),
        (f"{_LAYER}layernorm_{{place:before|after}}", f"{_OURS}{{place}}_LN"),
        (f"{_LAYER}attention.qkv_proj.convolution", f"{_OURS}qkv"),
        (f"{_LAYER}attention.out_proj.convolution", f"{_OURS}attention_output"),
        (f"{_LAYER}ffn.conv1.convolution", f"{_OURS}intermediate"),
        (f"{_LAYER}ffn.conv2.convolution", f"{_OURS}output"),
    ],
)

# Configurations -----------------------------------------------------------------------------------------------------

# our setting of the backbone -> theirs
_SHARED = {
    "expand_ratio": "expand_ratio",
    "kernel_size": "conv_kernel_size",
    "patch_size": "patch_size",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
}
_SETTINGS = {
    **_SHARED,
    "hidden_sizes": "hidden_sizes",
    "heads": "num_attention_heads",
    "mlp_ratio": "mlp_ratio",
    "qkv_bias": "qkv_bias",
}
_SETTINGS_V2 = {
    **_SHARED,
    "alpha": "width_multiplier",
    "attention_widths": "base_attn_unit_dims",
    "transformers": "n_attn_blocks",
    "ffn_multiplier": "ffn_multiplier",
}


def _shared(settings, expand_ratio, activation):
    return {
        "expand_ratio": settings.number("expand_ratio", expand_ratio, most=64),
        "kernel_size": _odd(settings, "conv_kernel_size"),
        "patch_size": settings.whole("patch_size", 2, most=64),
        "activation": settings.text("hidden_act", activation, ACTIVATIONS),
        "epsilon": settings.number("layer_norm_eps", 1e-5),
    }


def _odd(settings, name):
    size = settings.whole(name, 3, most=31)
    if size % 2 == 0:
        raise settings.refused(name, "an odd number")
    return size


def _network_of(settings, paths, num_classes):
    """The settings of a `config.json` and `{variable path: shape}` to (record, blocks of input channels)."""
    widths = settings.wholes("neck_hidden_sizes", (16, 32, 64, 96, 128, 160, 640), 7)
    values = {
        "hidden_sizes": settings.wholes("hidden_sizes", (144, 192, 240), 3),
        "neck_hidden_sizes": widths[:6],
        "heads": settings.whole("num_attention_heads", 4, most=1024),
        "mlp_ratio": settings.number("mlp_ratio", 2.0, most=64),
        "qkv_bias": settings.switch("qkv_bias", True),
        **_shared(settings, 4.0, "silu"),
    }
    if any(size % values["heads"] for size in values["hidden_sizes"]):
        raise settings.refused("num_attention_heads", f"a divisor of hidden_sizes, {values['hidden_sizes']}")
    return _spec("mobilevit_small", values, settings, paths, num_classes)


def _network_of_v2(settings, paths, num_classes):
    """As `_network_of`."""
    values = {
        "alpha": settings.number("width_multiplier", 1.0, most=8),
        "attention_widths": settings.wholes("base_attn_unit_dims", (128, 192, 256), 3),
        "transformers": settings.wholes("n_attn_blocks", (2, 4, 3), 3, most=64),
        "ffn_multiplier": settings.whole("ffn_multiplier", 2, most=64),
        **_shared(settings, 2.0, "swish"),
    }
    return _spec("mobilevit_v2", values, settings, paths, num_classes)


def _spec(backbone, values, settings, paths, num_classes):
    output_stride = settings.whole("output_stride", 32)
    if output_stride not in (8, 16, 32):
        raise settings.refused("output_stride", "8, 16 or 32")
    classes, head, blocks = torch_head(paths)
    spec = network(
        V3,
        backbone,
        num_classes=classes,
        output_stride=output_stride,
        backbone_settings=values,
        flavour="transformers",
        atrous_rates=settings.wholes("atrous_rates", (6, 12, 18), 3),
        dropout=settings.number("aspp_dropout_prob", 0.1, least=-1, most=1),
        **head,
    )
    return spec, blocks


def _config_of(names):
    def config_of(spec, paths):
        """A model's record and its variables by their paths to the settings of its `config.json`."""
        ours = dict(spec.backbone_settings)
        if "activation" in ours:
            ours["activation"] = theirs(ours["activation"])
        config = {names[name]: value for name, value in ours.items() if name in names}
        if "neck_hidden_sizes" in ours:
            # The last is the classifier's, which isn't part of a DeepLab.
            config["neck_hidden_sizes"] = [*ours["neck_hidden_sizes"], 4 * ours["neck_hidden_sizes"][-1]]
        dropout = spec.settings.get("dropout")
        return config | {
            "output_stride": spec.output_stride,
            "atrous_rates": list(spec.settings.get("atrous_rates") or (6, 12, 18)),
            "aspp_out_channels": int(paths["aspp0/kernel"].shape[-1]),
            "aspp_dropout_prob": 0.1 if dropout is None else dropout,
        }

    return config_of


def _fillers(config):
    return {}


MOBILEVIT = SimpleNamespace(
    ARCHITECTURE="MobileViTForSemanticSegmentation",
    FIRST="mobilevit.conv_stem.convolution",
    TELLING=("conv_stem", "layer5_transformer0_query", "image_pooling", "logits"),
    OPTIONAL="",
    PROCESSOR=_PROCESSOR,
    ROWS=_ROWS,
    network_of=_network_of,
    config_of=_config_of(_SETTINGS),
    fillers=_fillers,
)
MOBILEVIT_V2 = SimpleNamespace(
    ARCHITECTURE="MobileViTV2ForSemanticSegmentation",
    FIRST="mobilevitv2.conv_stem.convolution",
    TELLING=("conv_stem", "layer5_transformer0_qkv", "image_pooling", "logits"),
    OPTIONAL="",
    PROCESSOR=_PROCESSOR,
    ROWS=_ROWS_V2,
    network_of=_network_of_v2,
    config_of=_config_of(_SETTINGS_V2),
    fillers=_fillers,
)
