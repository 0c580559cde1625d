"""OpenCV, or an ImportError that says how to get it: `from keras_deeplab._helpers.opencv import cv2`.

Import it inside the function that needs it, so that everything else works where OpenCV does not.
"""

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

__all__ = ["cv2"]
