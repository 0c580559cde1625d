"""Windows' rules for files, held against this process on Linux.

There a file that is open, or mapped into memory, can't be removed, renamed or replaced, nor can a folder that
holds one; and only what is open for writing can be brought to the disk.
"""

import contextlib
import errno
import fcntl
import os
import re

_FUNCTIONS = ("replace", "rename", "unlink", "remove", "rmdir")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$|.*[<>:\"|?*\\\x00-\x1f]|.*[ .]$")


def open_paths():
    """The paths of regular files that this process has open or mapped."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if os.path.isfile(path):
                found.add(path)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        found |= {line.split(maxsplit=5)[5].rstrip() for line in maps if line.count("/")}
    return found


def _absolute(path, folder):
    if folder is not None:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    return os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))


def hold(monkeypatch):
    """From here on `os` refuses what Windows refuses, with its errors."""

    def refusing(function):
        def call(*paths, src_dir_fd=None, dst_dir_fd=None, dir_fd=None):
            taken = open_paths()
            for path, folder in zip(map(os.fspath, paths), (src_dir_fd or dir_fd, dst_dir_fd), strict=False):
                whole = _absolute(path, folder)
                held = next((each for each in taken if each == whole or each.startswith(f"{whole}/")), None)
                if held is not None:
                    raise PermissionError(errno.EACCES, "used by another process (WinError 32)", held)
            folders = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd, "dir_fd": dir_fd}
            return function(*paths, **{name: value for name, value in folders.items() if value is not None})

        return call

    def fsync(descriptor, really=os.fsync):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        really(descriptor)

    for name in _FUNCTIONS:
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(os, "fsync", fsync)


def impossible_names(folder):
    """Names below a folder that no file has there."""
    return [name for _, folders, files in os.walk(folder) for name in (*folders, *files) if _RESERVED.match(name)]
