"""Whether a model can learn a data set, compared by their records; and what its record tells a training."""

from collections.abc import Sequence

import keras

from keras_deeplab.data.source import Source
from keras_deeplab.specs import AUXILIARY, LOGITS, Classes
from keras_deeplab.specs.model import SegmentationModel, spec_of, with_spec


def check_model(model: keras.Model, source: Source) -> None:
    """Refuses a model that can't learn the labels of a data set.

    Raises:
        ValueError: the model doesn't map images of the data's channels to logits of its classes, it returns
            probabilities, it decides each class by itself, its second output isn't known to be auxiliary logits, or
            its record names other classes than the data's.
    """
    spec = spec_of(model)
    if spec.multi_label:
        raise ValueError(
            "the model decides each class by itself (multi-label), and label maps have one class a pixel: build it "
            "with classifier_activation=None"
        )
    if spec.activation is not None:
        raise ValueError(
            "the model returns probabilities; training needs logits: build it with classifier_activation=None"
        )
    if spec.outputs not in ((LOGITS,), (LOGITS, AUXILIARY)):
        raise ValueError(
            f"the model has {len(spec.outputs)} outputs, and its record calls them {', '.join(spec.outputs)}: training "
            f"takes logits, or logits and auxiliary ones, keras_deeplab.specs.model.with_spec(model, "
            f"outputs={(LOGITS, AUXILIARY)})"
        )
    if spec.channels != source.channels:
        raise ValueError(
            f"the model takes images of {spec.channels} channels but the data has {source.channels}: load the data "
            f"with channels={spec.channels}, or build the model with input_shape=(None, None, {source.channels})"
        )
    if source.num_classes < 2:
        raise ValueError(
            f"the data has one class ({', '.join(source.classes)}), so there is nothing to tell apart: name what is "
            "not of it as a class too, such as background"
        )
    if spec.num_labels != source.num_classes:
        names = ", ".join(source.classes)
        if spec.binary:
            raise ValueError(
                f"the model has one logit, which tells 2 classes apart, but the data has {source.num_classes} "
                f"({names}): build the model with num_classes={source.num_classes}"
            )
        raise ValueError(
            f"the model has {spec.num_labels} classes but the data has {source.num_classes} ({names}): "
            f"build the model with num_classes={source.num_classes}"
        )
    ours, theirs = spec.classes.names, source.classes_spec.names
    if ours is not None and theirs is not None and ours != theirs:
        order = ", though the names are the same: their order differs" if set(ours) == set(theirs) else ""
        raise ValueError(
            f"the model's classes are not the data's{order}. Model: {', '.join(ours)}. Data: {', '.join(theirs)}. "
            "To teach it the data's, build or load it with those names (classes=source.classes_spec), or with none; "
            "where only the names differ, give the data the model's (classes=[...])"
        )


def recorded(model: keras.Model, source: Source) -> SegmentationModel:
    """The model with the data's classes, colours and ignored label in its record, where that doesn't tell its own.

    The range of its images is the data's, where that has one, since this is what it learns.

    A `SegmentationModel` is changed itself; any other keras.Model stays as it is, and one of the same layers is
    returned, to be saved in its place.
    """
    record, told = spec_of(model).classes, source.classes_spec
    merged = Classes(record.names or told.names, record.colors or told.colors, told.ignore_label)
    learnt = spec_of(model).image_range if source.image_range is None else source.image_range
    return with_spec(model, classes=merged, image_range=learnt)


def head_variables(model: keras.Model) -> Sequence[keras.Variable]:
    """The variables of the layers behind a model's backbone, as its record tells them.

    Raises:
        ValueError: it has no record of them.
    """
    spec = spec_of(model)
    if not spec.head:
        raise ValueError(
            f"the record of the model {model.name!r} doesn't tell which of its layers are the head; models of "
            "keras_deeplab's builders have it, and with_spec(model, head=[paths of layers]) gives it to others"
        )
    head = set(spec.head)
    found = [variable for variable in model.variables if variable.path.rpartition("/")[0] in head]
    missing = head - {variable.path.rpartition("/")[0] for variable in found}
    if missing:
        raise ValueError(
            f"the record of the model {model.name!r} names layers as its head that it doesn't have: "
            f"{', '.join(sorted(missing)[:5])}"
        )
    return found
