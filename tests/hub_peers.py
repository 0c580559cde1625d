"""Networks of other packages with weights from a seed, as folders that they write themselves, beside ours."""

import numpy as np
from peers import peer

import keras_deeplab

SIZES = ((65, 97), (64, 96))  # an odd and an even one


def transformers(architecture, *, seed=0, **config):
    """A network of transformers in evaluation; weights and statistics are from the seed, features keep their size."""
    package, torch = peer("transformers"), peer("torch")
    name = architecture.removesuffix("ForSemanticSegmentation")
    model = getattr(package, architecture)(getattr(package, f"{name}Config")(**config)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if key.endswith("num_batches_tracked"):
                continue
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim >= 2:
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
            elif key.endswith("weight"):
                tensor.uniform_(0.7, 1.3, generator=generator)
            else:
                tensor.normal_(0, 0.1, generator=generator)
    return model


def logits(model, images):
    """What a network of transformers makes of (B, H, W, C), as (B, h, w, classes)."""
    torch = peer("torch")
    with torch.no_grad():
        scores = model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).logits
    return scores.numpy().transpose(0, 2, 3, 1)


def difference(expected, found):
    """The largest difference as a share of the range of what is expected."""
    found = np.asarray(found)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.abs(found - expected).max() / np.ptp(expected))


def worst(model, folder, sizes=SIZES, channels=3):
    """The largest difference of a network of transformers and of what is loaded from the folder, over the sizes."""
    ours = keras_deeplab.load(folder, include_preprocessing=False, upsample_logits=False)
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((1, *size, channels)).astype("float32") for size in sizes]
    return max(difference(logits(model, each), ours(each)) for each in images)


def keras_hub_segmenter(plus=True, *, block_type="basic_block", num_classes=3, stem=(64,), rates=(1, 2, 3), **encoder):
    """A small DeepLabV3ImageSegmenter of keras-hub with weights from a seed."""
    from randomise import randomise

    models, layers = peer("keras_hub").models, peer("keras_hub").layers
    settings = {
        "input_conv_filters": list(stem),
        "input_conv_kernel_sizes": [7] if len(stem) == 1 else [3] * len(stem),
        "stackwise_num_filters": [64, 16, 24, 32],
        "stackwise_num_blocks": [2, 1, 1, 1],
        "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": block_type,
        **encoder,
    }
    low_level = {"projection_filters": 8, "low_level_feature_key": "P2"} if plus else {}
    backbone = models.DeepLabV3Backbone(
        models.ResNetBackbone(**settings),
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=list(rates),
        **low_level,
    )
    converter = layers.DeepLabV3ImageConverter(image_size=(96, 96), scale=1 / 255, offset=[-0.1, -0.2, -0.3])
    preprocessor = models.DeepLabV3ImageSegmenterPreprocessor(converter)
    model = models.DeepLabV3ImageSegmenter(backbone, num_classes=num_classes, preprocessor=preprocessor)
    randomise(model)
    return model
