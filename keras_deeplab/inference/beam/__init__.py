"""Very many images by an Apache Beam pipeline: to label files, a row each, and one confusion matrix.

`pipeline` and `handler` are Beam's part and import it; the rest is plain code that a worker runs.
"""
