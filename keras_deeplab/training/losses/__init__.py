"""Losses over label maps with ignored pixels."""

from keras_deeplab.training.losses.cross_entropy import SparseCategoricalCrossentropy

__all__ = ["SparseCategoricalCrossentropy"]
