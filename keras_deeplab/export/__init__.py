"""A trained model to the files that serve it.

`saved_model` (TensorFlow Serving), `tflite` (phones, browsers), `onnx` (ONNX Runtime, OpenVINO), and `compare`, what
they lost.
"""

__all__ = ["compare", "onnx", "saved_model", "tflite"]
