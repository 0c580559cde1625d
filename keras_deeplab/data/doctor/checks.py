"""The table of checks: a further one is one row."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from keras_deeplab.data.doctor import of_files, of_images, of_labels, of_splits
from keras_deeplab.data.doctor.evidence import Evidence
from keras_deeplab.data.doctor.findings import SEVERITIES, Finding

# Each kind of finding to a function from all that was measured to the findings of this kind.
CHECKS: dict[str, Callable[[Evidence], Iterable[Finding]]] = {
    "refused": of_labels.refused,
    "mask_alpha": of_files.mask_alpha,
    "blended_masks": of_files.blended,
    "mask_numbers": of_files.numbers,
    "mask_sizes": of_files.fitting,
    "bit_depth": of_files.depth,
    "orientation": of_files.orientation,
    "one_class": of_labels.one_class,
    "unreadable": of_labels.unreadable,
    "unknown_labels": of_labels.unknown_labels,
    "overlapping_splits": of_splits.overlap,
    "misplaced_masks": of_images.misplaced,
    "absent_classes": of_labels.absent,
    "ignored_pixels": of_labels.ignored,
    "samples_of_one_class": of_labels.alike,
    "dark_images": of_images.dark,
    "plain_images": of_images.plain,
    "mixed_files": of_files.mixed,
    "crop_size": of_images.crops,
    "image_sizes": of_images.sizes,
    "repeated_images": of_splits.repeated,
    "noisy_masks": of_labels.noise,
    "class_imbalance": of_labels.imbalance,
    "few_samples": of_splits.few,
    "unpaired_files": of_files.unpaired,
}


def checked(evidence: Evidence) -> tuple[Finding, ...]:
    """What all checks find, the worst first, else in the order of the table."""
    found = [replace(finding, kind=kind) for kind, check in CHECKS.items() for finding in check(evidence)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))
