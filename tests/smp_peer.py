"""segmentation_models.pytorch's own networks beside ours: filled from a seed, saved, loaded, compared, written back."""

import re
import warnings

import keras
import numpy as np
from peers import peer

import keras_deeplab

# The last batch norm of a residual branch, among others. As in trained networks it counts for less than what it is
# added to, and features have a positive mean: with weights of a seed alone a change of rounding grows from layer to
# layer, to 1e-5 between the peer's own float32 and float64.
_BRANCH = re.compile(r"(bn2|bn3|bn_pw|\.conv\.3|\.conv3\.bn)\.weight")


def network(architecture, encoder, seed=0, reparameterized=False, **settings):
    """One of its networks with 4 classes, weights from a seed and batch norm's statistics of its own features.

    Statistics that are random alone would make features grow or fade from stage to stage, and rounding with them; they
    are those of noise, each moved by a random part. Those behind the image's average, of which there are two, aren't
    of noise.
    """
    smp, torch = peer("segmentation_models_pytorch"), peer("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the names timm-*
        model = getattr(smp, architecture)(encoder, encoder_weights=None, classes=4, **settings)
    rng = torch.Generator().manual_seed(seed)
    pooled = [norm for name, norm in model.named_modules() if name.endswith("convs.4.2")]
    norms = [norm for norm in model.modules() if isinstance(norm, torch.nn.BatchNorm2d)]

    def uniform(shape, low, high):
        return low + (high - low) * torch.rand(shape, generator=rng)

    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("gamma"):
                tensor.copy_(uniform(tensor.shape, 0.3, 0.6))
            elif tensor.ndim == 1:
                tensor.copy_(uniform(tensor.shape, *((0.7, 1.3) if name.endswith("weight") else (0.2, 1.2))))
                if _BRANCH.search(name):
                    tensor.mul_(0.3)
            else:
                fan_in = int(np.prod(tensor.shape[1:]))
                tensor.copy_(torch.randn(tensor.shape, generator=rng) * (2 / fan_in) ** 0.5)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        torch.manual_seed(seed)
        model.train()(torch.randn(2, settings.get("in_channels", 3), 64, 64, generator=rng))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            # A channel that noise leaves dark would be lit some hundredfold where an image reaches it.
            norm.running_var.clamp_(min=0.2 * float(norm.running_var.mean()))
            deviation = norm.running_var.sqrt()
            norm.running_mean.add_(deviation * torch.randn(deviation.shape, generator=rng) * 0.05)
            norm.running_var.mul_(uniform(deviation.shape, 0.8, 1.3))
        for norm in pooled:
            norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=rng) * 0.1)
            norm.running_var.copy_(uniform(norm.running_var.shape, 0.5, 1.5))
    if reparameterized:
        from segmentation_models_pytorch.encoders.mobileone import reparameterize_model

        model = reparameterize_model(model)
    return model.eval()


def outputs(model, images):
    """Its scores (B, H, W, classes) of images (B, H, W, channels)."""
    torch = peer("torch")
    with torch.no_grad():
        scores = model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    scores = scores[0] if isinstance(scores, tuple) else scores  # the second is of its head for whole images
    return scores.numpy().transpose(0, 2, 3, 1)


def difference(theirs, ours, sizes, seed=1):
    """The largest difference of scores at (height, width)s, as a share of their range."""
    rng, largest = np.random.default_rng(seed), 0.0
    for size in sizes:
        images = rng.standard_normal((1, *size, ours.input_shape[-1])).astype("float32")
        expected, found = outputs(theirs, images), keras.ops.convert_to_numpy(ours(images))
        assert found.shape == expected.shape
        largest = max(largest, float(np.abs(found - expected).max() / np.ptp(expected)))
    return largest


def rounding(theirs, folder, sizes, seed=1):
    """What of `difference` is rounding: of the same images, as shares of the range of the peer's scores in float64.

    Returns:
        (largest difference of the peer's scores in float32, of ours in float32, of ours in float64), all from the
        peer's in float64
    """
    rng, largest = np.random.default_rng(seed), np.zeros(3)
    ours = loaded(theirs, folder)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    exact = loaded(theirs, folder)
    keras.config.set_dtype_policy(policy)
    for size in sizes:
        images = rng.standard_normal((1, *size, ours.input_shape[-1])).astype("float32")
        found = [outputs(theirs, images), ours(images), exact(images.astype("float64"))]
        expected = outputs(theirs.double(), images.astype("float64"))
        theirs.float()
        found = [np.abs(keras.ops.convert_to_numpy(each) - expected).max() / np.ptp(expected) for each in found]
        largest = np.maximum(largest, found)
    return tuple(map(float, largest))


def inner_difference(theirs, ours, sizes, seed=1):
    """`difference` of a DeepLab v3's scores before they are resized, which is at any size: it refuses odd ones."""
    torch = peer("torch")
    layer = next(layer for layer in ours.layers if layer.name == "logits")
    inner, rng, largest = keras.Model(ours.input, layer.output), np.random.default_rng(seed), 0.0
    for size in sizes:
        images = rng.standard_normal((1, *size, ours.input_shape[-1])).astype("float32")
        with torch.no_grad():
            features = theirs.encoder(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
            expected = theirs.segmentation_head[0](theirs.decoder(features)).numpy().transpose(0, 2, 3, 1)
        found = keras.ops.convert_to_numpy(inner(images))
        assert found.shape == expected.shape
        largest = max(largest, float(np.abs(found - expected).max() / np.ptp(expected)))
    return largest


def loaded(theirs, folder, **settings):
    """What `load` makes of the folder that its `save_pretrained` writes."""
    theirs.save_pretrained(folder)
    return keras_deeplab.load(folder, **{"include_preprocessing": False, **settings})


def written_back(ours, theirs):
    """Loads what `export_weights` writes of our model into theirs, strictly, after everything there was forgotten.

    Its head for whole images, which our models go without, keeps its values.
    """
    torch = peer("torch")
    from keras_deeplab.export.weights import state_dict

    state = {name: torch.from_numpy(np.array(array)) for name, array in state_dict(ours, "smp").items()}
    kept = {name: tensor for name, tensor in theirs.state_dict().items() if name.startswith("classification_head")}
    with torch.no_grad():
        for name, tensor in theirs.state_dict().items():
            if name not in kept:
                tensor.zero_()
    theirs.load_state_dict({**state, **kept}, strict=True)
