"""Networks that hubs hold, made by the packages of others with weights from seeds, beside what `load` makes of them.

    python benchmarks/hub_parity.py [NAME ...]

One line an architecture: what the other package's own network computes of seeded images of an odd and an even size
(keras-hub's: of two multiples of 32, where its maps add up), and the largest difference of ours as a share of the range
of its logits. Names pick families: mobilenet_v2, mobilevit, mobilevitv2, keras_hub; none takes all. It needs the extra
`peers`. Every folder is written by the other package's `save_pretrained`, `save_to_preset` or `save`.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

V2, MOBILEVIT, MOBILEVIT_V2 = (f"{name}ForSemanticSegmentation" for name in ("MobileNetV2", "MobileViT", "MobileViTV2"))
X_SMALL = {"hidden_sizes": [96, 120, 144], "neck_hidden_sizes": [16, 32, 48, 64, 80, 96, 384]}
XX_SMALL = {
    "hidden_sizes": [64, 80, 96],
    "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320],
    "expand_ratio": 2.0,
}
# family -> architectures and the settings of their config.json; the first lines are published configurations
TRANSFORMERS = {
    "mobilenet_v2": [
        (V2, {"output_stride": 8, "num_labels": 21}),
        (V2, {"output_stride": 16, "depth_multiplier": 0.5}),
        (V2, {"output_stride": 32, "depth_multiplier": 1.4}),
        (V2, {"output_stride": 8, "depth_multiplier": 0.35, "tf_padding": False}),
        (V2, {"output_stride": 8, "depth_multiplier": 0.1, "first_layer_is_expansion": False, "hidden_act": "silu"}),
        (V2, {"output_stride": 4, "depth_divisible_by": 4, "min_depth": 12, "expand_ratio": 3, "hidden_act": "gelu"}),
    ],
    "mobilevit": [
        (MOBILEVIT, {"output_stride": 16, "num_labels": 21}),
        (MOBILEVIT, {"output_stride": 16, "num_labels": 21, **X_SMALL}),
        (MOBILEVIT, {"output_stride": 16, "num_labels": 21, **XX_SMALL}),
        (MOBILEVIT, {"output_stride": 8, "patch_size": 3, "qkv_bias": False, "hidden_act": "relu", **XX_SMALL}),
        (MOBILEVIT, {"num_attention_heads": 2, "conv_kernel_size": 5, "atrous_rates": [2, 3, 4], **XX_SMALL}),
    ],
    "mobilevitv2": [
        (MOBILEVIT_V2, {"output_stride": 16, "num_labels": 21}),
        (MOBILEVIT_V2, {"output_stride": 16, "width_multiplier": 0.5}),
        (MOBILEVIT_V2, {"output_stride": 8, "width_multiplier": 0.75, "ffn_multiplier": 3, "n_attn_blocks": [1, 2, 1]}),
    ],
}
RESNET50 = {"stackwise_num_filters": [64, 128, 256, 512], "stackwise_num_blocks": [3, 4, 6, 3]}
KERAS_HUB = [
    (True, {"block_type": "bottleneck_block", "rates": (6, 12, 18), **RESNET50}),
    (False, {"block_type": "bottleneck_block", "rates": (6, 12, 18), **RESNET50}),
    (True, {"block_type": "bottleneck_block", "use_pre_activation": True, **RESNET50}),
    (True, {"block_type": "bottleneck_block_vd", "stem": (32, 32, 64), **RESNET50}),
    (True, {"block_type": "basic_block"}),
    (False, {"block_type": "basic_block_vd", "stem": (32, 32, 64), "rates": (2,)}),
]


def of_transformers(architecture, config, folder):
    """The largest difference, of a folder in shards."""
    from hub_peers import transformers, worst

    model = transformers(architecture, **config)
    model.save_pretrained(folder, max_shard_size="5MB")
    return worst(model, folder)


def of_keras_hub(plus, settings, folder):
    """The largest difference of a preset and of a .keras file; what is written back has to give the very logits."""
    import numpy as np
    from hub_peers import difference, keras_hub_segmenter
    from peers import peer

    import keras_deeplab

    model = keras_hub_segmenter(plus, **settings)
    model.save_to_preset(folder / "preset")
    model.save(folder / "model.keras")
    rng, differences = np.random.default_rng(0), []
    images = [rng.standard_normal((1, *size, 3)).astype("float32") for size in ((96, 160), (64, 64))]
    for path in ("preset", "model.keras"):
        ours = keras_deeplab.load(folder / path, include_preprocessing=False)
        differences += [difference(np.asarray(model(each, training=False)), ours(each)) for each in images]
    keras_deeplab.export_weights(ours, folder / "back", "keras_hub")
    again = peer("keras_hub").models.ImageSegmenter.from_preset(str(folder / "back"))
    assert all(np.array_equal(model(each, training=False), again(each, training=False)) for each in images)
    return max(differences)


def main(names):
    lines = [(family, of_transformers, *row) for family, rows in TRANSFORMERS.items() for row in rows]
    lines += [("keras_hub", of_keras_hub, *row) for row in KERAS_HUB]
    print("| family | architecture | settings | largest difference |\n|---|---|---|---|")
    for family, measure, architecture, settings in lines:
        if names and family not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measure(architecture, settings, Path(folder))
        told = ", ".join(f"{name} {value}" for name, value in settings.items())
        title = architecture if isinstance(architecture, str) else f"DeepLab v3{'+' * architecture} on ResNet"
        print(f"| {family} | {title} | {told} | {found:.1e} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
