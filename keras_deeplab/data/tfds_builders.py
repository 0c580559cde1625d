"""The public data sets through TensorFlow Datasets: importing this registers `keras_deeplab_voc` and the others.

Each reader with an `OFFICIAL` record is one; what it reads is what the builder prepares.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow_datasets as tfds

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data.orientation import orientation_of
from keras_deeplab.data.source import Source

PREFIX = "keras_deeplab_"


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The splits of a data set that was downloaded by hand: images, labels with 255 ignored, names."""

    VERSION = tfds.core.Version("1.0.0")
    READER: ModuleType

    def _info(self) -> Any:
        official = self.READER.OFFICIAL
        classes = official.classes[int(self.builder_config.name)]
        return self.dataset_info_from_configs(
            homepage=official.homepage,
            description=f"{official.name}, semantic segmentation, read from its archives by keras_deeplab.",
            license=official.licence,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.LabeledImage(labels=list(classes.names), shape=(None, None, 1)),
                    "name": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        sources, missing = {}, []
        for split in self.READER.OFFICIAL.splits:
            try:
                sources[split] = self.READER.read(
                    dl_manager.manual_dir, split, num_classes=int(self.builder_config.name)
                )
            except FileNotFoundError as error:
                missing.append(error)
        if not sources:
            raise missing[0]
        return {split: self._generate_examples(source) for split, source in sources.items()}

    def _generate_examples(self, source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
        for index, sample in enumerate(source.dataset().as_numpy_iterator()):
            name = sample["name"].decode()
            image = _file(source.files[index][1]) if source.files else None
            # The label as numbers, because TFDS would expand a palette; a photograph as the file that it is.
            yield (
                name,
                {"image": image or sample["image"], "label": sample["label"][..., None], "name": name},
            )


def _file(path: Path) -> bytes | None:
    """The bytes of a file that everyone decodes to the same pixels; None for other kinds and for marked as turned."""
    data = read_regular(path)
    return data if data.startswith((b"\xff\xd8", b"\x89PNG")) and orientation_of(data) == 1 else None


def _instructions(official: Any) -> str:
    archives = "; ".join(f"{name}: {folders}" for name, folders in official.archives.items())
    return f"manual_dir holds what the archives of {official.homepage} unpack to. {archives}"


def _registered(kind: str, reader: ModuleType) -> type[_Builder]:
    official = reader.OFFICIAL
    contents = {
        "__doc__": f"{official.name}. {_Builder.__doc__}",
        "__module__": __name__,
        "name": PREFIX + kind,
        "READER": reader,
        "MANUAL_DOWNLOAD_INSTRUCTIONS": _instructions(official),
        "BUILDER_CONFIGS": [
            tfds.core.BuilderConfig(name=str(count), description=f"{count} classes") for count in official.classes
        ],
    }
    return type("KerasDeeplab" + kind.title().replace("_", ""), (_Builder,), contents)


def _builders() -> dict[str, type[_Builder]]:
    from keras_deeplab.data import READERS

    readers = {kind: import_module(row) if isinstance(row, str) else row for kind, row in READERS.items()}
    return {kind: _registered(kind, reader) for kind, reader in readers.items() if hasattr(reader, "OFFICIAL")}


BUILDERS = _builders()
