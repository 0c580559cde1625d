"""Checks of the files as they are stored, which also tell why a data set can't be read: depth, alpha, blended masks."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import attrgetter

import numpy as np

from keras_deeplab.data.doctor.evidence import Evidence
from keras_deeplab.data.doctor.files import ImageFile, MaskFile, as_codes
from keras_deeplab.data.doctor.findings import ERROR, NOTE, WARNING, Example, Finding, number, share
from keras_deeplab.data.doctor.outlines import outlines
from keras_deeplab.data.images import read_image
from keras_deeplab.data.mask_files import LOSSY, read_mask
from keras_deeplab.specs import IGNORED

_LEVELS = 6  # different numbers or colours in strips one pixel wide, in one mask, that only blending makes
_ENDS = (1023, 4095, 16383, 65535)  # of the bits that cameras have
_WHOLE = (0, 65535)  # numbers of images of more than 8 bits that are looked at
_TURNED = 60  # photographs whose outlines are compared both ways
_CLEARLY = 0.1  # difference of the shares by which one way is said to be right


def mask_alpha(evidence: Evidence) -> Iterator[Finding]:
    """Masks whose shape stands in the alpha channel, which is dropped."""
    shaped = [mask for mask in evidence.files.masks.values() if mask.alpha is not None and len(mask.alpha) > 1]
    if shaped and evidence.troubled and evidence.reading.get("mask_encoding", "auto") == "auto":
        flat = all(len(mask.values) == 1 for mask in shaped)
        yield Finding(
            ERROR,
            f"{_of(shaped, evidence.files.masks, 'mask')} an alpha channel that is not the same everywhere"
            + (", and one colour throughout: their shape is in the alpha alone." if flat else "."),
            "mask_encoding='alpha' reads the shape from it: 0 is class 0, everything else class 1; 'grey', 'palette', "
            "'rgb' and 'binary' drop it.",
            _names(shaped),
            _raw(shaped, evidence),
        )


def blended(evidence: Evidence) -> Iterator[Finding]:
    """Masks whose classes run into one another at their outlines: smoothed, resized or JPEG."""
    masks = evidence.files.masks
    lossy = [mask for mask in masks.values() if mask.path.suffix.lower() in LOSSY]
    part = next(iter(evidence.parts.values()), None)
    classes = part.source.num_classes if part else 0
    mixed = [mask for mask in masks.values() if len(_strange(mask, classes) & mask.thin) >= _LEVELS]
    mixed = mixed if evidence.troubled else []
    found = mixed or lossy
    if not found or evidence.reading.get("mask_repair"):
        return
    text = []
    if lossy:
        text.append(f"{_of(lossy, masks, 'mask')} been saved as JPEG, which blends labels at their outlines.")
    if mixed:
        most = max(mixed, key=lambda mask: len(mask.values))
        between = sum(mask.values[value] for mask in mixed for value in _strange(mask, classes) & mask.thin)
        whole = sum(sum(mask.values.values()) for mask in mixed)
        text.append(
            f"{_of(mixed, masks, 'mask')} more colours or numbers than classes, in thin strips ({len(most.values)} in "
            f"{most.path.name}): {share(between, whole)} of the pixels are blended, as by smoothing or by resizing "
            "with interpolation."
        )
    yield Finding(
        ERROR if mixed else WARNING,
        " ".join(text),
        "mask_repair='nearest' takes the nearest class for them (for masks of 0 and 255 with mask_encoding='binary'). "
        "Better: export the masks anew, as PNG and without smoothing.",
        _names(found),
        _raw(found, evidence),
    )


def numbers(evidence: Evidence) -> Iterator[Finding]:
    """Masks whose numbers are other than labels, but so regular that they tell what is meant."""
    part = next(iter(evidence.parts.values()), None)
    masks = [mask for mask in evidence.files.masks.values() if mask.channels == 1]
    read_as = {"mask_encoding", "colors", "label_offset", "ignore_label", "mask_repair"} & evidence.reading.keys()
    if part is None or not masks or read_as or not evidence.troubled:
        return
    classes = part.source.num_classes
    values = sorted({value for mask in masks for value in mask.values})
    strange = [value for value in values if value >= classes and value != IGNORED]
    remedy = ""
    if values == list(range(1, classes + 1)):
        told, remedy = f"1 to {classes}, and labels are 0 to {classes - 1}", "label_offset=-1 makes them labels."
    elif strange and len(values) == 2 and classes == 2 and values[0] == 0:
        told = f"0 and {values[1]} alone"
        remedy = "mask_encoding='binary' reads 0 as class 0 and everything else as class 1."
    elif strange and len(values) == classes and values[-1] <= 255:
        told = ", ".join(map(str, values)) + f": as many as there are classes, {classes}"
        remedy = (
            f"colors={[(value,) * 3 for value in values]} makes them classes in this order (a file of colours has "
            f"{', '.join(f'{value} {value} {value}' for value in values)}, one a line)."
        )
    if remedy:
        yield Finding(ERROR, f"the masks hold the numbers {told}.", remedy, examples=_raw(masks, evidence))


def orientation(evidence: Evidence) -> Iterator[Finding]:
    """Photographs that are to be shown turned: whether the masks were drawn on them turned or as they are stored."""
    pairs = [pair for pair in evidence.files.pairs if pair[1].orientation != 1]
    if not pairs or not evidence.turns:
        return
    votes: Counter[str] = Counter()
    agreements: list[tuple[float, float]] = []
    for _, image, mask in pairs:
        upright, as_stored = mask.size == image.upright, mask.size == image.size
        if upright != as_stored:
            votes["upright" if upright else "stored"] += 1
        elif upright and len(agreements) < _TURNED and (both := _both_ways(image, mask)):
            agreements.append(both)
    text = (
        f"{number(len(pairs), 'photograph')} of {len(evidence.files.images):,} {'has' if len(pairs) == 1 else 'have'} "
        f"an EXIF orientation ({_some({image.orientation for _, image, _ in pairs})})."
    )
    mean = np.mean(agreements, axis=0) if agreements else None
    if mean is not None:
        text += (
            f" Edges of the image lie on the masks' outlines at {share(mean[0])} of their length where it is turned "
            f"upright, and at {share(mean[1])} as it is stored ({number(len(agreements), 'pair')} compared)."
        )
        if abs(mean[0] - mean[1]) >= _CLEARLY:
            votes["upright" if mean[0] > mean[1] else "stored"] += len(agreements)
    if votes:
        sized = sum(votes.values()) - (len(agreements) if mean is not None else 0)
        if sized:
            text += f" By their sizes {_some(f'{n} masks fit {way}' for way, n in votes.items())}."
    examples = _raw([mask for _, _, mask in pairs], evidence)
    names = tuple(image.path.name for _, image, _ in pairs)
    current = evidence.reading.get("orientation") or "upright"
    if not votes:
        yield Finding(
            WARNING,
            f"{text} Nothing tells whether the masks belong to the image as turned or as stored; it is read {current}.",
            "Look at the pictures (check-data --html FILE); orientation='upright' or orientation='stored' says which.",
            names,
            examples,
        )
    elif len(votes) > 1:
        yield Finding(
            ERROR, f"{text} Some masks belong to the turned and some to the stored image.", _TURN_FILES, names, examples
        )
    else:
        (fitting,) = votes
        if fitting != current:
            told = "turned upright" if fitting == "upright" else "as they are stored"
            yield Finding(
                ERROR,
                f"{text} So the masks belong to the photographs {told}, and they are read the other way.",
                f"orientation={fitting!r} reads them so.",
                names,
                examples,
            )
        else:
            yield Finding(NOTE, f"{text} They are read {fitting}, which fits the masks.", "", names, examples)


_TURN_FILES = "Turn the files themselves, photographs and masks, so that none has an orientation (exiftran -ai)."


def _both_ways(image: ImageFile, mask: MaskFile) -> tuple[float, float] | None:
    """How an image's edges agree with a mask, upright and as stored."""
    try:
        codes = {way: as_codes(read_mask(mask.path, way).values) for way in (True, False)}
        turned, kept = (outlines(read_image(image.path, 3, way, _WHOLE), codes[way]).agreement() for way in codes)
    except (ValueError, OSError):
        return None
    return None if turned is None or kept is None else (turned, kept)


def depth(evidence: Evidence) -> Iterator[Finding]:
    """Images of more than 8 bits: which numbers are black and white has to be told."""
    deep = [image for image in evidence.files.images.values() if image.bits > 8 and image.high is not None]
    if deep and evidence.troubled and not evidence.reading.get("image_range"):
        high = max(image.high or 0 for image in deep)
        end = next((end for end in _ENDS if high <= end), high)
        yield Finding(
            ERROR,
            f"{_of(deep, evidence.files.images, 'image')} {max(image.bits for image in deep)} bits a channel, and the "
            f"largest number is {high}, of {end.bit_length()} bits.",
            f"image_range=(0, {end}) makes 0 to 255 of them.",
            _names(deep),
            _raw(deep, evidence),
        )


def mixed(evidence: Evidence) -> Iterator[Finding]:
    """Images of greatly differing kinds: channels, bits, and alpha that is dropped."""
    images = evidence.files.images
    for told, kind_of in (("channels", attrgetter("channels")), ("bits a channel", attrgetter("bits"))):
        kinds = Counter(map(kind_of, images.values()))
        if len(kinds) > 1:
            counted = ", ".join(f"{number(count, 'image')} of {kind}" for kind, count in kinds.most_common())
            rare = kinds.most_common()[-1][0]
            found = [image for image in images.values() if kind_of(image) == rare]
            yield Finding(
                WARNING if told != "channels" or max(kinds) > 3 else NOTE,
                f"the images differ in {told}: {counted}.",
                "Save them all alike; what differs so is seldom of one camera.",
                _names(found),
                _raw(found, evidence),
            )
    dropped = [image for image in images.values() if image.alpha]
    if dropped and evidence.reading.get("channels") != 4:
        yield Finding(
            NOTE,
            f"{_of(dropped, images, 'image')} alpha, or near infrared, that is not the same everywhere.",
            "channels=4 keeps it; otherwise it is dropped, and what it hides shows.",
            _names(dropped),
            _raw(dropped, evidence),
        )


def unpaired(evidence: Evidence) -> Iterator[Finding]:
    """Images without a mask and masks without an image."""
    files = evidence.files
    if not files.masks or not files.images or evidence.reading.get("missing_masks"):
        return
    for names, told, remedy in (
        (files.lone_images, "image|without a mask", "missing_masks='background' takes them as background throughout."),
        (files.lone_masks, "mask|without an image", "Remove them, or find their images."),
    ):
        if names:
            what, lacking = told.split("|")
            yield Finding(NOTE, f"{number(len(names), what)} {lacking} of the same name.", remedy, names)


def fitting(evidence: Evidence) -> Iterator[Finding]:
    """Masks of another size than their image."""
    wrong = [
        (name, image, mask)
        for name, image, mask in evidence.files.pairs
        if mask.size not in (image.size, image.upright)
    ]
    if wrong and evidence.troubled:
        yield Finding(
            ERROR,
            f"{number(len(wrong), 'mask')} of {len(evidence.files.masks):,} of another size than the image.",
            "Export the masks at the images' size, resized by nearest neighbour if at all.",
            tuple(f"{name}: image {_size(image.size)}, mask {_size(mask.size)}" for name, image, mask in wrong),
            _raw([mask for _, _, mask in wrong], evidence),
        )


def _strange(mask: MaskFile, classes: int) -> set[int]:
    """The numbers and colours of a mask that can't be labels; 16 bits hold those of instances."""
    if mask.channels > 1:
        return set(mask.values)
    return set() if max(mask.values) > 255 else {value for value in mask.values if value >= classes} - {IGNORED}


def _of(found: Sequence, whole: Collection, what: str) -> str:
    """`3 of 12 masks have`."""
    return f"{len(found):,} of {number(len(whole), what)} {'has' if len(found) == 1 else 'have'}"


def _names(found: Sequence) -> tuple[str, ...]:
    return tuple(each.path.name for each in found)


def _raw(found: Sequence, evidence: Evidence, most: int = 3) -> tuple[Example, ...]:
    """Some of these image or mask files, each beside its counterpart."""
    examples: list[Example] = []
    wanted = {each.path for each in found}
    for name, image in evidence.files.images.items():
        mask = evidence.files.masks.get(name)
        if len(examples) < most and (image.path in wanted or (mask is not None and mask.path in wanted)):
            files = (image.path, *(() if mask is None else (mask.path,)))
            examples.append(Example(name, files=tuple(map(str, files))))
    return tuple(examples)


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _some(values: Iterable) -> str:
    return ", ".join(map(str, sorted(values)))
