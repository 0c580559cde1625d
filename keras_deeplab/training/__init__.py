"""Training: losses, schedules, recipes, the loop, and the folder of a run."""

from keras_deeplab.training.recipes import recipe

__all__ = ["recipe"]
