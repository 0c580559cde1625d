"""A trained model to the files that serve it: `saved_model` (TensorFlow Serving), `tflite` (phones, browsers)."""

__all__ = ["saved_model", "tflite"]
