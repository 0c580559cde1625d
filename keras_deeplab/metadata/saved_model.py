"""The record beside a SavedModel."""


def read_spec(folder):
    return None
