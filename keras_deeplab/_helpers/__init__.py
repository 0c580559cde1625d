"""Small helpers that several rooms share: files, progress, OpenCV, registration with Keras, private names of others."""
