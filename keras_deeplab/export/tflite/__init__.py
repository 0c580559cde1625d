"""A Keras model to a TFLite file for phones, browsers and small computers, and the check of what it lost."""

from keras_deeplab.export.tflite.compared import RejectedFile, export_precisions, export_verified
from keras_deeplab.export.tflite.settings import PRECISIONS
from keras_deeplab.export.tflite.writer import TFLiteFile, export_tflite

__all__ = [
    "PRECISIONS",
    "RejectedFile",
    "TFLiteFile",
    "export_precisions",
    "export_tflite",
    "export_verified",
]
