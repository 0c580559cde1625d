"""What comes from outside is opened only where it is a file, and folders with links in a circle have an end."""

import os

import pytest
from data_sets import mask, numbers, photograph

from keras_deeplab import data
from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import read_regular, temporary_folder, unverified, walk
from keras_deeplab.data.doctor.files import files_of

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and named pipes are POSIX's")


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def walked(root):
    return [os.path.relpath(os.path.join(parent, name), root) for parent, _, names in walk(root) for name in names]


def test_a_walk_follows_links_but_not_back(tmp_path):
    tree(tmp_path, "b/2", "b/c/3", "a/1", "0")
    (tmp_path / "d").symlink_to("b")
    for place in ("", "b/", "b/c/"):
        (tmp_path / f"{place}l1").symlink_to(tmp_path)
        (tmp_path / f"{place}l2").symlink_to(".")
    (tmp_path / "nowhere").symlink_to("nothing")
    (tmp_path / "itself").symlink_to("itself")
    found = walked(tmp_path)
    assert found == ["0", "itself", "nowhere", "a/1", "b/2", "b/c/3", "d/2", "d/c/3"]


def test_folders_that_a_caller_takes_out_are_not_walked(tmp_path):
    tree(tmp_path, "a/1", "b/2")
    found = []
    for parent, folders, _ in walk(tmp_path):
        found.append(os.path.basename(parent))
        folders[:] = [name for name in folders if name != "a"]
    assert found == [tmp_path.name, "b"]


def test_a_maze_of_links_has_an_end(tmp_path, monkeypatch):
    """None of them leads back: a to b by two links, b to c by two, and so on, 2^30 ways in all."""
    for level in range(30):
        (tmp_path / str(level)).mkdir()
        for name in ("x", "y"):
            (tmp_path / str(level) / name).symlink_to(tmp_path / str(level + 1))
    tree(tmp_path, "30/1")
    monkeypatch.setattr(limits, "REPEATED_FOLDERS", 500)
    with pytest.raises(ValueError, match="is a maze of links: 501 of its folders are reached more than once"):
        walked(tmp_path / "0")


def test_a_data_set_with_links_in_a_circle_is_read_and_checked(tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    for number in range(4):
        photograph(tmp_path / "images" / f"{number}.png", number)
        mask(tmp_path / "masks" / f"{number}.png", numbers([0, 1], number))
    for folder in ("images", "masks"):
        for name in ("l1", "l2"):
            (tmp_path / folder / name).symlink_to(".")
    assert data.load(tmp_path, split="all").num_examples == 4
    assert len(files_of(tmp_path).pairs) == 4


def test_only_a_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, what in (("pipe", "a named pipe"), ("link", "a named pipe"), ("zero", "a device"), (".", "a folder")):
        with pytest.raises(ValueError, match=rf"is {what}.*, and a regular file is expected"):
            read_regular(tmp_path / name)


def test_each_process_has_its_own_unverified_file(tmp_path, monkeypatch):
    """Two exports to one path took each other's file."""
    names = []
    for process in (4, 5):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        names.append(unverified(tmp_path / "a.tflite", ".tflite").name)
    assert names == [".4.a.unverified.tflite", ".5.a.unverified.tflite"]


def test_a_temporary_folder_goes_whatever_ends_its_block(tmp_path):
    def interrupted():
        with temporary_folder("copies", tmp_path) as folder:
            (folder / "copy").write_text("x")
            assert list(tmp_path.iterdir()) == [folder]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
