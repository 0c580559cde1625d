"""Pages that people look at: one HTML file each, with everything in it, that works offline."""

from keras_deeplab.reports.page import Page

__all__ = ["Page"]
