"""The page about a model on a data set: what it scores, where it errs, how sure it is, what it costs."""

from keras_deeplab.reports.model.page import write_model_report

__all__ = ["write_model_report"]
