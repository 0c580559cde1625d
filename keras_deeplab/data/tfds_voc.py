"""PASCAL VOC through TensorFlow Datasets: importing this registers the data set `keras_deeplab_voc`."""

from pathlib import Path

import tensorflow_datasets as tfds

from keras_deeplab.data.folder import pair_reader
from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.voc import CLASSES, devkit, mask_pairs


class KerasDeeplabVoc(tfds.core.GeneratorBasedBuilder):
    """PASCAL VOC's segmentation splits from a devkit that was downloaded by hand, images and labels 0..20 and 255."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir holds the unpacked devkit: VOCdevkit/VOC2012 with JPEGImages, SegmentationClass and "
        "ImageSets/Segmentation, from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
    )
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="official", description="masks of SegmentationClass"),
        tfds.core.BuilderConfig(name="augmented", description="masks of SegmentationClassAug (SBD)"),
    )

    def _info(self):
        return self.dataset_info_from_configs(
            homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
            description="PASCAL VOC semantic segmentation, read from a devkit.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.LabeledImage(labels=CLASSES, shape=(None, None, 1)),
                    "name": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        root = devkit(Path(dl_manager.manual_dir))
        lists = sorted(file.stem for file in (root / "ImageSets" / "Segmentation").glob("*.txt"))
        # The test list's masks are not public.
        return {split: self._generate_examples(root, split) for split in lists if split != "test"}

    def _generate_examples(self, root, split):
        pairs = mask_pairs(root, split, self.builder_config.name == "augmented")
        read_pair = pair_reader(pairs, label_reader(len(CLASSES)))
        for index, (name, image_file, _) in enumerate(pairs):
            _, label, _ = read_pair(index)
            # The photograph goes in as the file it is; the mask as numbers, as TFDS would expand its palette.
            yield name, {"image": str(image_file), "label": label[..., None], "name": name}
