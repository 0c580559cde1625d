"""Every published DeepLab that is built here, one row each: its record, what its source reports, and its weights.

Accuracies are mean IoU in percent as the named file or paper gives them, of weights trained there; nothing here was
trained to reach them. `keras-deeplab models` prints them beside what the code counts. The classifiers that training
starts from have a table of their own, because several models start from one.
"""

from keras_deeplab.published.classifiers import CLASSIFIERS
from keras_deeplab.published.figures import Count, Score
from keras_deeplab.published.files import Weights
from keras_deeplab.published.others import (
    BONLIME,
    CAFFE,
    COINCHEUNG,
    DRN,
    DRN_README,
)
from keras_deeplab.published.papers import (
    MNV2_PAPER,
    PAPER_MOBILENET,
    PAPER_V1,
    PAPER_V2,
    PAPER_V3,
    PAPER_V3_PLUS,
    V1_PAPER,
    V3_PAPER,
    V3_PLUS_PAPER,
)
from keras_deeplab.published.pytorch import (
    FREGU856,
    JFZHANG95,
    KAZUTO1011,
    SMP,
    TORCHVISION,
    TORCHVISION_FILE,
    VAINF,
    VAINF_README,
)
from keras_deeplab.published.row import PublishedModel, models
from keras_deeplab.published.slim import (
    SLIM,
    ZOO,
)
from keras_deeplab.published.toolboxes import (
    DETECTRON2,
    DETECTRON2_README,
    MMSEGMENTATION,
    MMSEGMENTATION_README,
    PADDLESEG,
    PADDLESEG_README,
)
from keras_deeplab.registry import Registry

__all__ = ["CLASSIFIERS", "MODELS", "Count", "PublishedModel", "Score", "Weights"]

_ROWS = [
    *models("slim", ZOO, SLIM),
    *models("bonlime", "bonlime/keras-deeplab-v3-plus, model.py", BONLIME, flavour="bonlime"),
    *models("vainf", VAINF_README, VAINF, flavour="vainf"),
    *models("torchvision", TORCHVISION_FILE, TORCHVISION, flavour="torchvision", auxiliary_head=True),
    *models("jfzhang95", "jfzhang95/pytorch-deeplab-xception, README.md", JFZHANG95, flavour="jfzhang95"),
    *models("kazuto1011", "kazuto1011/deeplab-pytorch, README.md", KAZUTO1011),
    *models("fregu856", "fregu856/deeplabv3, model/deeplabv3.py", FREGU856, flavour="fregu856", num_classes=20),
    *models("smp", "qubvel-org/segmentation_models.pytorch, decoders/deeplabv3/model.py", SMP, flavour="smp"),
    *models(
        "mmsegmentation",
        MMSEGMENTATION_README,
        MMSEGMENTATION,
        flavour="mmsegmentation",
        num_classes=19,
        filters=512,
    ),
    *models(
        "paddleseg",
        PADDLESEG_README,
        PADDLESEG,
        flavour="paddleseg",
        num_classes=19,
        preprocessing="tf",
        atrous_rates=(12, 24, 36),
        multi_grid=(1, 2, 4),
    ),
    *models(
        "detectron2",
        DETECTRON2_README,
        DETECTRON2,
        flavour="detectron2",
        num_classes=19,
        atrous_rates=(6, 12, 18),
        multi_grid=(1, 2, 4),
        pooling_window=(32, 64),
    ),
    *models("caffe", "DeepLab v1 and v2, Caffe release", CAFFE),
    *models("coincheung", "CoinCheung/Deeplab-Large-FOV, lib/model.py", COINCHEUNG),
    *models("fyu", DRN_README, DRN, variant=None, align_corners=False, num_classes=19),
    *models("paper", V1_PAPER, PAPER_V1),
    *models("paper", "DeepLab v2, arXiv 1606.00915", PAPER_V2),
    *models("paper", V3_PAPER, PAPER_V3),
    *models("paper", V3_PLUS_PAPER, PAPER_V3_PLUS),
    *models("paper", MNV2_PAPER, PAPER_MOBILENET),
]

MODELS: Registry[PublishedModel] = Registry("published model", {row.name: row for row in _ROWS})
