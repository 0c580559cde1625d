"""Losses over label maps with ignored pixels: one file a family, each registered with Keras."""

from keras_deeplab.training.losses.boundary import BoundaryCrossentropy
from keras_deeplab.training.losses.coarse import AtLabelSize
from keras_deeplab.training.losses.cross_entropy import SparseCategoricalCrossentropy
from keras_deeplab.training.losses.distillation import Distillation
from keras_deeplab.training.losses.focal import Focal
from keras_deeplab.training.losses.lovasz import LovaszSoftmax
from keras_deeplab.training.losses.overlap import Dice, Jaccard
from keras_deeplab.training.losses.steps import FollowSteps, LossStep, step_variables
from keras_deeplab.training.losses.sums import WeightedSum

__all__ = [
    "AtLabelSize",
    "BoundaryCrossentropy",
    "Dice",
    "Distillation",
    "Focal",
    "FollowSteps",
    "Jaccard",
    "LossStep",
    "LovaszSoftmax",
    "SparseCategoricalCrossentropy",
    "WeightedSum",
    "step_variables",
]
