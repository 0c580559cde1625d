"""What MediaPipe Tasks' ImageSegmenter reads of a file, and how a file that it would misread is refused by it.

Its graph (image_segmenter_graph.cc of the MediaPipe Authors) takes the last axis of a file's one output for scores of
classes, whatever that output is: labels become as many masks as an image has columns. What makes probabilities of the
scores is in the metadata, in a buffer of its own named SEGMENTER_METADATA (image_segmenter_metadata_schema.fbs,
identifier V001). A file without it opens; one with an activation that it doesn't know is refused, "Invalid activation
type found in CustomMetadata". So that is what files have that it would misread.
"""

from keras_deeplab.metadata import tables
from keras_deeplab.specs import FileSpec

NAME = "SEGMENTER_METADATA"
_IDENTIFIER = b"V001"
_ACTIVATIONS = {None: 0, "sigmoid": 1, "softmax": 2}
_REFUSED = 127  # none of the standard's
# Its category masks are of bytes.
_MOST_CLASSES = 256


def misread(spec: FileSpec) -> str | None:
    """Why MediaPipe Tasks would take a file of this record for something else; None where it wouldn't."""
    model = spec.model
    if spec.output == "labels":
        return "it returns labels, which MediaPipe takes for scores"
    if len(spec.input_sizes) != 1:
        return f"it takes {'several sizes' if spec.input_sizes else 'any size'}, and MediaPipe feeds images of one"
    if model.binary:
        return "it has one score for two labels, which MediaPipe numbers 255 and 0"
    if not spec.upsampled:
        return "its last resize is left out, and MediaPipe resizes by conventions of its own"
    if (model.num_classes or 0) > _MOST_CLASSES:
        return f"it has {model.num_classes} classes, and MediaPipe's masks hold {_MOST_CLASSES}"
    if model.channels != 3:
        return f"its images have {model.channels} channels, and MediaPipe's 3"
    return None


def caution(spec: FileSpec) -> str | None:
    """What MediaPipe Tasks does otherwise than this package with a file that it reads, or None."""
    if spec.model.multi_label:
        return (
            "where no class of this multi-label model is above 0.5, a category mask has the likeliest all the same and "
            "not the ignored label; take the confidence masks, which are each class's own probability"
        )
    return None


def options(spec: FileSpec) -> bytes:
    """The buffer that tells what makes probabilities of a file's output, or that nothing does."""
    activation = _ACTIVATIONS[spec.model.probability if spec.output == "logits" else None]
    if misread(spec) is not None:
        activation = _REFUSED
    return tables.packed([(0, "int8", activation), (1, "string", "1.0.0")], _IDENTIFIER)
