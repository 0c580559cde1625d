"""OpenCV, or an ImportError that says how to get it: `from keras_deeplab._helpers.opencv import cv2`.

Import it inside the function that needs it, so that everything else works where OpenCV does not.
"""

import os

try:
    import cv2
except (ImportError, OSError) as error:
    if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
        raise ImportError(
            "OpenCV is not installed, and reading or writing image files needs it: pip install opencv-python-headless"
        ) from error
    raise ImportError(
        f"OpenCV is installed but does not load: {error}. A missing libGL, libgthread or libSM means the desktop "
        "build on a machine without a screen; the headless build needs none of them: "
        "pip uninstall --yes opencv-python opencv-contrib-python && "
        "pip install --force-reinstall opencv-python-headless"
    ) from error

__all__ = ["cv2", "name_of"]


def name_of(path: str | os.PathLike) -> str:
    """A path as OpenCV takes it.

    Raises:
        ValueError: it isn't in UTF-8, which ends the process in OpenCV.
    """
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{text!a} has a name that is not in UTF-8, which OpenCV can't open: rename the file or its folder"
        ) from None
    return text
