"""What very many images are answered with: options of the command and of `pipeline.segment_many`."""

from keras_deeplab._helpers import limits
from keras_deeplab.data.settings import DataOptions
from keras_deeplab.options import OptionError, Options, nested, option, record

# As `masks`: those that stand beside the images in TFRecords.
RECORD = "record"


@record
class ManyOptions(Options):
    """Files or records to label files, rows and a confusion matrix."""

    TITLE = "many images"

    output_dir: str = option(
        "predictions",
        "folder of the run, or its address such as gs://bucket/run",
        metavar="FOLDER",
        configuration=False,
    )
    masks: str | None = option(
        None, "what answers are scored by: a folder of PNG masks with the images' names; record: those in the TFRecords"
    )
    records: bool = option(False, "whether all files are TFRecords; else those that have tfrecord in their ending")
    image_key: str | None = option(None, "feature of a record that holds the image file", metavar="KEY")
    label_key: str | None = option(None, "feature of a record that holds the mask file", metavar="KEY")
    probabilities: bool = option(False, "whether to write probabilities (.npz) too")
    batch_size: int = option(
        1, "images that are run at once, where their sizes are equal", minimum=1, configuration=False
    )
    max_pixels: int = option(
        limits.MAX_PIXELS, "pixels of an image, above which it isn't decoded", minimum=1, configuration=False
    )
    reading: DataOptions = nested(DataOptions)

    def checked(self) -> None:
        if self.label_key is not None and self.masks != RECORD:
            raise OptionError("{label_key} is of masks in records: give {masks} record")
