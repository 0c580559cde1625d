"""The DeepLab networks: pixels, a dense backbone, a head, logits at the image's size."""

from keras_deeplab.models.deeplab_v1 import DeepLabV1
from keras_deeplab.models.deeplab_v2 import DeepLabV2
from keras_deeplab.models.deeplab_v3 import DeepLabV3, DeepLabV3Plus

__all__ = ["DeepLabV1", "DeepLabV2", "DeepLabV3", "DeepLabV3Plus"]
