# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A service's configuration tree on the target: compared by content, owner and mode, and changed in place.

The directory is mounted into the container as a whole and never renamed: a replaced mount point would keep
its old content inside the container. Files are replaced one by one, each atomically; no program here reads
its configuration before it is told to.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import typing as t

DIRECTORY_MODE = 0o750


class Change(t.TypedDict):
    """How a tree differs from what is wanted: relative paths by what has to happen to them."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    permissions: list[str]


def compare(root: str, files: dict[str, dict[str, t.Any]], owner: tuple[int, int], keep: list[str]) -> Change:
    """Compare a directory with the files that should be in it, and with nothing else.

    :param files: relative path → C(sha256) (hexadecimal) and C(mode) (integer).
    :param owner: the user and group numbers of the container; files are root's, readable by that group.
    :param keep: patterns of relative paths that belong to the user and are neither compared nor removed.
    """
    change = Change(added=[], changed=[], removed=[], permissions=[])
    if not os.path.isdir(root):
        change["added"] = sorted(files)
        return change
    group = owner[1]
    if not _has(root, 0, group, DIRECTORY_MODE):
        change["permissions"].append(".")
    wanted_directories = {parent for path in files for parent in _parents(path)}
    for directory, names, found in os.walk(root):
        for name in names:
            relative = os.path.relpath(os.path.join(directory, name), root)
            full = os.path.join(root, relative)
            if relative in wanted_directories and not _has(full, 0, group, DIRECTORY_MODE):
                change["permissions"].append(relative)
        for name in found:
            relative = os.path.relpath(os.path.join(directory, name), root)
            if relative not in files and not _kept(relative, keep):
                change["removed"].append(relative)
    for path, entry in files.items():
        full = os.path.join(root, path)
        if not os.path.isfile(full) or os.path.islink(full):
            change["added"].append(path)
        elif digest(full) != entry["sha256"]:
            change["changed"].append(path)
        elif not _has(full, 0, group, entry["mode"]):
            change["permissions"].append(path)
    for paths in change.values():
        t.cast("list[str]", paths).sort()
    return change


def differs(change: Change) -> bool:
    """Whether a comparison found anything."""
    return any(change.values())


def write(root: str, path: str, source: str, mode: int, group: int) -> None:
    """Put one file in its place atomically, with its directories, owner and mode."""
    make_directory(root, 0, group, DIRECTORY_MODE)
    for parent in _parents(path):
        make_directory(os.path.join(root, parent), 0, group, DIRECTORY_MODE)
    target = os.path.join(root, path)
    temporary = f"{target}.new"
    with open(source, "rb") as reader:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
    os.chown(temporary, 0, group)
    os.chmod(temporary, mode)
    os.rename(temporary, target)


def begin(path: str, text: str) -> None:
    """Write a file that everybody may read, whole, where there is none yet."""
    if os.path.exists(path):
        return
    with open(path + ".new", "w") as writer:
        writer.write(text)
    os.chmod(path + ".new", 0o644)
    os.rename(path + ".new", path)


def correct(root: str, path: str, mode: int, group: int) -> None:
    """Give a file or directory of the tree the owner and mode that it should have."""
    full = os.path.normpath(os.path.join(root, path))
    os.chown(full, 0, group)
    os.chmod(full, mode)


def remove(root: str, path: str) -> None:
    """Remove one file, and the directories that it leaves empty."""
    full = os.path.join(root, path)
    os.unlink(full)
    parent = os.path.dirname(full)
    while parent != root and not os.listdir(parent):
        os.rmdir(parent)
        parent = os.path.dirname(parent)


def kept(root: str, keep: list[str]) -> list[str]:
    """Return the relative paths of the files that are the user's own."""
    return sorted(path for path in _files(root) if _kept(path, keep))


def ours(root: str, keep: list[str]) -> bool:
    """Whether anything of ours is left of a tree, besides the user's own files."""
    own = kept(root, keep)
    return os.path.isdir(root) and (not own or len(own) < len(_files(root)))


def clear(root: str, keep: list[str]) -> None:
    """Remove a tree, except the user's own files."""
    for directory, names, found in os.walk(root, topdown=False):
        for name in found:
            path = os.path.join(directory, name)
            if not _kept(os.path.relpath(path, root), keep):
                os.unlink(path)
        for name in names:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                os.unlink(path)
        if not os.listdir(directory):
            os.rmdir(directory)


def make_directory(path: str, user: int, group: int, mode: int) -> None:
    """Make a directory with an owner and a mode; what is there and right is left alone."""
    os.makedirs(path, exist_ok=True)
    if not _has(path, user, group, mode):
        os.chown(path, user, group)
        os.chmod(path, mode)


def unfinished(root: str) -> str:
    """Return the path of the file that is there while a change of a tree is not yet in force."""
    return root + ".unfinished"


def digest(path: str) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with open(path, "rb") as reader:
        return hashlib.sha256(reader.read()).hexdigest()


def right_directory(path: str, user: int, group: int) -> bool:
    """Whether a data directory is there with its owner and mode."""
    return os.path.isdir(path) and _has(path, user, group, DIRECTORY_MODE)


def _files(root: str) -> list[str]:
    return [
        os.path.relpath(os.path.join(directory, name), root)
        for directory, _names, found in os.walk(root)
        for name in found
    ]


def _kept(path: str, keep: list[str]) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in keep)


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _has(path: str, user: int, group: int, mode: int) -> bool:
    status = os.stat(path)
    return (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (user, group, mode)
