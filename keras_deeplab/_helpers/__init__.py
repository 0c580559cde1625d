"""Small helpers that several rooms share: files, the progress line, OpenCV, registration with Keras."""
