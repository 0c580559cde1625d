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
