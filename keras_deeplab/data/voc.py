"""PASCAL VOC segmentation: a devkit folder to a `Source`, or through TensorFlow Datasets as `keras_deeplab_voc`."""

from pathlib import Path

import tensorflow_datasets as tfds

from keras_deeplab.data.folder import files_by_name, listed_names, pair_files, pair_reader, refuse_repetitions
from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.source import indexed
from keras_deeplab.specs.class_names import VOC

CLASSES = list(VOC.names)


def read(path, split="train", *, augmented=False):
    """Map a VOC devkit to the `Source` of one of its segmentation splits, 21 classes.

    Args:
        path: the folder that holds `VOCdevkit`, or `VOCdevkit`, or its `VOC2012`.
        split: name of a file in `ImageSets/Segmentation`, without `.txt`: train, val, trainval, trainaug, ...
        augmented: whether to take the masks from `SegmentationClassAug` (the 10,582 of SBD), not from
            `SegmentationClass`.

    Raises:
        FileNotFoundError: a folder, a list, or files that it names are missing; it names them.
    """
    pairs = _pairs(_devkit(path), split, augmented)
    return indexed(f"{path} ({split})", CLASSES, len(pairs), pair_reader(pairs, label_reader(len(CLASSES))))


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
        root = _devkit(Path(dl_manager.manual_dir))
        lists = sorted(file.stem for file in (root / "ImageSets" / "Segmentation").glob("*.txt"))
        # The test list's masks are not public.
        return {split: self._generate_examples(root, split) for split in lists if split != "test"}

    def _generate_examples(self, root, split):
        pairs = _pairs(root, split, self.builder_config.name == "augmented")
        read_pair = pair_reader(pairs, label_reader(len(CLASSES)))
        for index, (name, image_file, _) in enumerate(pairs):
            _, label, _ = read_pair(index)
            # The photograph goes in as the file it is; the mask as numbers, as TFDS would expand its palette.
            yield name, {"image": str(image_file), "label": label[..., None], "name": name}


def _devkit(path):
    """The folder with JPEGImages in it, whichever of its parents is given."""
    path = Path(path).expanduser()
    for root in (path, path / "VOC2012", path / "VOCdevkit" / "VOC2012"):
        if (root / "JPEGImages").is_dir():
            return root
    others = sorted(folder.parent for folder in (*path.glob("VOC*/JPEGImages"), *path.glob("VOCdevkit/*/JPEGImages")))
    if len(others) == 1:
        return others[0]
    raise FileNotFoundError(
        f"{path} is no VOC devkit: there is no VOCdevkit/VOC2012/JPEGImages in it, nor a part of that path"
        + (f"; give one of {', '.join(map(str, others))}" if others else "")
    )


def _pairs(root, split, augmented):
    masks = "SegmentationClassAug" if augmented else "SegmentationClass"
    for folder in (masks, "ImageSets/Segmentation"):
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{root} has no folder {folder}/")
    origin = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not origin.is_file():
        lists = sorted(file.stem for file in origin.parent.glob("*.txt"))
        raise FileNotFoundError(f"there is no {origin}; there are the splits {', '.join(lists) or '(none)'}")
    # Some lists that go round give "/JPEGImages/NAME.jpg /SegmentationClassAug/NAME.png" instead of NAME.
    names = [Path(line.split()[0]).stem for line in listed_names(origin)]
    refuse_repetitions(names, origin)
    return pair_files(
        root,
        names,
        files_by_name(root / "JPEGImages", (".jpg",)),
        files_by_name(root / masks, (".png",)),
        ("JPEGImages", masks),
        origin,
    )
