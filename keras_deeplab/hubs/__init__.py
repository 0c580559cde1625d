"""Models to and from hubs: presets, which are folders as Keras has them, model cards, and the way up."""
