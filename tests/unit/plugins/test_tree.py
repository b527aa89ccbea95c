"""A configuration tree is compared by content, owner and mode, and changed file by file."""

from __future__ import annotations

import hashlib
import os
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import tree

# Without root no file can be given away: then the tests use the group that they have.
GROUP = 4321 if os.geteuid() == 0 else os.getegid()
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files get owners")
Files = dict[str, dict[str, t.Any]]
CONTENTS = {"main.conf": b"main", "rules.d/one.yml": b"one"}


def wanted(mode: int = 0o640) -> Files:
    return {path: {"sha256": hashlib.sha256(data).hexdigest(), "mode": mode} for path, data in CONTENTS.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree that is as it should be."""
    made = tmp_path / "root"
    source = tmp_path / "source"
    for path, data in CONTENTS.items():
        source.write_bytes(data)
        tree.write(str(made), path, str(source), 0o640, GROUP)
    return made


def compare(root: Path, keep: tuple[str, ...] = ()) -> dict[str, list[str]]:
    found = tree.compare(str(root), wanted(), (1234, GROUP), list(keep))
    return {how: paths for how, paths in found.items() if paths}  # type: ignore[misc]


def test_a_tree_that_was_just_written_does_not_differ(root: Path) -> None:
    assert compare(root) == {}
    assert not tree.differs(tree.compare(str(root), wanted(), (1234, GROUP), []))


def test_a_tree_that_is_not_there_is_added_whole(tmp_path: Path) -> None:
    assert compare(tmp_path / "nowhere") == {"added": ["main.conf", "rules.d/one.yml"]}


def test_another_content_of_the_same_length_is_found(root: Path) -> None:
    (root / "main.conf").write_bytes(b"niam")
    assert compare(root) == {"changed": ["main.conf"]}


def test_a_missing_file_is_found(root: Path) -> None:
    (root / "rules.d/one.yml").unlink()
    assert compare(root) == {"added": ["rules.d/one.yml"]}


def test_another_mode_is_found(root: Path) -> None:
    (root / "main.conf").chmod(0o644)
    assert compare(root) == {"permissions": ["main.conf"]}


@pytest.mark.parametrize(("user", "group"), [(1234, GROUP), (0, 0)])
def test_another_owner_is_found(root: Path, user: int, group: int) -> None:
    os.chown(root / "main.conf", user, group)
    assert compare(root) == {"permissions": ["main.conf"]}


@pytest.mark.parametrize(("path", "name"), [(".", "."), ("rules.d", "rules.d")])
def test_a_directory_with_another_mode_or_owner_is_found(root: Path, path: str, name: str) -> None:
    (root / path).chmod(0o777)
    assert compare(root) == {"permissions": [name]}
    tree.correct(str(root), name, tree.DIRECTORY_MODE, GROUP)
    assert compare(root) == {}
    os.chown(root / path, 1234, 0)
    assert compare(root) == {"permissions": [name]}


def test_files_that_should_not_be_there_are_found(root: Path) -> None:
    (root / "rules.d/old.yml").write_text("x")
    (root / "other").mkdir()
    (root / "other/deep.yml").write_text("x")
    assert compare(root) == {"removed": ["other/deep.yml", "rules.d/old.yml"]}


def test_files_of_the_user_are_left_alone(root: Path) -> None:
    (root / "rules.d/own.yml").write_text("x")
    (root / "own.txt").write_text("x")
    assert compare(root, keep=("rules.d/*",)) == {"removed": ["own.txt"]}


def test_our_own_file_is_compared_even_where_files_of_the_user_may_be(root: Path) -> None:
    (root / "rules.d/one.yml").write_text("x")
    assert compare(root, keep=("rules.d/*",)) == {"changed": ["rules.d/one.yml"]}


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(root: Path, tmp_path: Path) -> None:
    aim = tmp_path / "aim"
    aim.write_bytes(CONTENTS["main.conf"])
    (root / "main.conf").unlink()
    (root / "main.conf").symlink_to(aim)
    assert compare(root) == {"added": ["main.conf"]}
    source = tmp_path / "new"
    source.write_bytes(b"main")
    tree.write(str(root), "main.conf", str(source), 0o640, GROUP)
    assert compare(root) == {}
    assert aim.stat().st_gid == 0


def test_a_file_appears_whole_under_its_name(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the rename the former content is there; after it nothing of the temporary file is left."""
    source = tmp_path / "new"
    source.write_bytes(b"second")
    seen: list[tuple[bytes, int]] = []
    rename = os.rename

    def watched(one: str, other: str) -> None:
        seen.append(((root / "main.conf").read_bytes(), stat.S_IMODE(os.stat(one).st_mode)))
        rename(one, other)

    monkeypatch.setattr(os, "rename", watched)
    tree.write(str(root), "main.conf", str(source), 0o640, GROUP)
    assert seen == [(b"main", 0o640)]
    assert (root / "main.conf").read_bytes() == b"second"
    assert sorted(path.name for path in root.iterdir()) == ["main.conf", "rules.d"]


def test_a_secret_is_never_readable_by_others_while_it_is_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "new"
    source.write_bytes(b"secret")
    modes: list[int] = []
    monkeypatch.setattr(os, "chown", lambda path, *_owner: modes.append(stat.S_IMODE(os.stat(path).st_mode)))
    tree.write(str(root), "secret", str(source), 0o640, GROUP)
    assert modes[-1] == 0o600


def test_a_removed_file_takes_its_empty_directories_along_but_not_the_root(root: Path) -> None:
    tree.remove(str(root), "rules.d/one.yml")
    assert not (root / "rules.d").exists()
    tree.remove(str(root), "main.conf")
    assert root.is_dir()


def test_a_removed_file_leaves_a_directory_that_is_in_use(root: Path) -> None:
    (root / "rules.d/other").write_text("x")
    tree.remove(str(root), "rules.d/one.yml")
    assert (root / "rules.d/other").exists()


def test_a_data_directory_is_right_with_its_owner_and_mode_only(tmp_path: Path) -> None:
    path = tmp_path / "data"
    assert not tree.right_directory(str(path), 1, 2)
    tree.make_directory(str(path), 1, 2, tree.DIRECTORY_MODE)
    assert tree.right_directory(str(path), 1, 2)
    assert not tree.right_directory(str(path), 2, 2)
    path.chmod(0o755)
    assert not tree.right_directory(str(path), 1, 2)


def test_the_mark_of_an_unfinished_change_is_beside_the_tree(root: Path) -> None:
    Path(tree.unfinished(str(root))).touch()
    assert compare(root) == {}
