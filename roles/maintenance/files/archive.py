# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One backup in one file: written in one pass, and believed only after each of its files was hashed again.

An archive is a tar, compressed by gzip, encrypted by age where that is asked for. Its first member, C(backup.json),
says what it is; its last, C(manifest.json), has the SHA-256 of every other one. An archive that was cut off has no
last member, so it cannot pass for a whole one. Beside it lies its own SHA-256, as C(sha256sum -c) reads it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import typing as t
import zlib

# A number that grows when an older program could not read what a newer one writes.
FORMAT = 1
HEADER, MANIFEST = "backup.json", "manifest.json"
_BLOCK = 1 << 20
_NAME_PARTS_REFUSED = ("", ".", "..")


class ArchiveError(Exception):
    """The archive cannot be written, or cannot be believed."""


class _HashingReader:
    """Reads a file and hashes what was read, so that the hash is of what is in the archive, whatever happens."""

    def __init__(self, stream: t.BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.sha256.update(data)
        return data


class Writer:
    """Writes an archive beside its place and renames it when it is whole.

    :param compression: gzip's level; 0 stores only.
    :param recipients: age's public keys; none for an archive that is not encrypted.
    """

    def __init__(self, path: str, header: dict[str, t.Any], compression: int, recipients: list[str]) -> None:
        self.path, self.part = path, path + ".part"
        self._hashes: dict[str, str] = {}
        self._age: subprocess.Popen[bytes] | None = None
        descriptor = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: t.Any = os.fdopen(descriptor, "wb")
        target: t.Any = self._file
        if recipients:
            words = [_age_program(), "--encrypt"]
            for recipient in recipients:
                words += ["--recipient", recipient]
            self._age = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=self._file, stderr=subprocess.PIPE)
            target = self._age.stdin
        self._gzip = gzip.GzipFile(filename="", fileobj=target, mode="wb", compresslevel=compression)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.add_text(HEADER, json.dumps({"format": FORMAT, **header}, indent=1, sort_keys=True))

    def add_text(self, name: str, text: str) -> None:
        """Add a member from memory."""
        data = text.encode()
        self._add(name, io.BytesIO(data), len(data), 0o600)

    def add_file(self, name: str, source: str) -> None:
        """Add a file as long as it is now; what is appended meanwhile is left out."""
        with open(source, "rb") as stream:
            status = os.fstat(stream.fileno())
            self._add(name, stream, status.st_size, status.st_mode & 0o777)

    def add_tree(self, name: str, root: str) -> None:
        """Add all files below a directory. Links and sockets are nothing that a service could need back."""
        for directory, names, found in os.walk(root):
            names.sort()
            for entry in sorted(found):
                source = os.path.join(directory, entry)
                if os.path.isfile(source) and not os.path.islink(source):
                    self.add_file(f"{name}/{os.path.relpath(source, root)}", source)

    def close(self) -> tuple[str, int]:
        """Finish the archive, put it in its place and return its SHA-256 and its size."""
        manifest = json.dumps({"files": self._hashes}, indent=0, sort_keys=True)
        self.add_text(MANIFEST, manifest)
        self._tar.close()
        self._gzip.close()
        if self._age and self._age.stdin:
            self._age.stdin.close()
            said = self._age.stderr.read().decode(errors="replace").strip() if self._age.stderr else ""
            if self._age.wait():
                raise ArchiveError(f"age did not encrypt: {said}")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        digest, size = digest_of(self.part), os.path.getsize(self.part)
        with open(self.path + ".sha256.part", "w") as writer:
            writer.write(f"{digest}  {os.path.basename(self.path)}\n")
        os.rename(self.path + ".sha256.part", self.path + ".sha256")
        os.rename(self.part, self.path)
        _sync_directory(os.path.dirname(self.path))
        return digest, size

    def abandon(self) -> None:
        """Leave nothing of an archive that was not finished."""
        for part in (self._tar, self._gzip):
            with contextlib.suppress(OSError, ValueError):
                part.close()
        if self._age:
            self._age.kill()
            self._age.wait()
        self._file.close()
        for leftover in (self.part, self.path + ".sha256.part"):
            if os.path.exists(leftover):
                os.unlink(leftover)

    def _add(self, name: str, stream: t.Any, size: int, mode: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, mode
        reader = _HashingReader(stream)
        try:
            self._tar.addfile(entry, t.cast("t.Any", reader))
        except BrokenPipeError as error:
            said = self._age.stderr.read().decode(errors="replace").strip() if self._age and self._age.stderr else ""
            raise ArchiveError(f"age ended before the archive did: {said}") from error
        self._hashes[name] = reader.sha256.hexdigest()


def unpack(
    path: str, directory: str, identity: str = "", accept: t.Callable[[dict[str, t.Any]], None] | None = None
) -> dict[str, t.Any]:
    """Unpack an archive into an empty directory, hash everything, and return its header.

    :param identity: file with age's secret key, where the archive is encrypted.
    :param accept: is given the header before anything else is unpacked, and raises what it has against it.
    :raises ArchiveError: when anything in it is not what it should be; the directory is to be thrown away then.
    """
    beside = path + ".sha256"
    if os.path.exists(beside):
        with open(beside) as reader:
            wanted = reader.read().split()[:1]
        if wanted != [digest_of(path)]:
            raise ArchiveError(f"{path} is damaged: it is not what {os.path.basename(beside)} says")
    hashes: dict[str, str] = {}
    try:
        with _Plain(path, identity) as stream, gzip.GzipFile(fileobj=stream) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                for entry in tar:
                    hashes[entry.name] = _extract(tar, entry, directory)
                    if len(hashes) == 1:
                        header = _require_format(directory, entry.name)
                        if accept:
                            accept(header)
            # To its end, where gzip has a sum of its own.
            while plain.read(_BLOCK):
                pass
    except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno:
            raise ArchiveError(f"{path} cannot be unpacked: {error}") from error
        raise ArchiveError(f"{path} is damaged, or no archive of this program: {error}") from error
    hashes.pop(MANIFEST, None)
    listed = _json(directory, MANIFEST).get("files") if os.path.exists(os.path.join(directory, MANIFEST)) else None
    if listed is None:
        raise ArchiveError(f"{path} is damaged: it ends before its list of files")
    if listed != hashes:
        wrong = sorted(name for name in {*listed, *hashes} if listed.get(name) != hashes.get(name))
        raise ArchiveError(f"{path} is damaged: {', '.join(wrong[:5])} differ from its list of files")
    return _json(directory, HEADER)


def digest_of(path: str) -> str:
    """Return a file's SHA-256."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as reader:
        for block in iter(lambda: reader.read(_BLOCK), b""):
            sha256.update(block)
    return sha256.hexdigest()


class _Plain:
    """An archive's stream without its encryption."""

    def __init__(self, path: str, identity: str) -> None:
        self._path, self._identity = path, identity
        self._age: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> t.Any:
        if not self._path.endswith(".age"):
            self._stream: t.Any = open(self._path, "rb")  # noqa: SIM115 - closed by __exit__
            return self._stream
        if not self._identity:
            raise ArchiveError(f"{self._path} is encrypted: name the file with the secret key")
        words = [_age_program(), "--decrypt", "--identity", self._identity, self._path]
        self._age = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._stream = self._age.stdout
        return self._stream

    def __exit__(self, kind: t.Any, error: t.Any, _trace: t.Any) -> None:
        if self._age is None:
            self._stream.close()
            return
        # What comes after the end of the tar is padding; age has to see its end as well to tell that all was genuine.
        while kind is None and self._stream.read(_BLOCK):
            pass
        self._stream.close()
        said = self._age.stderr.read().decode(errors="replace").strip() if self._age.stderr else ""
        code = self._age.wait()
        # Whoever stopped reading before the end has a reason of their own.
        if code and not (kind is not None and code == -signal.SIGPIPE):
            raise ArchiveError(f"{self._path} cannot be decrypted: {said}") from error


def _age_program() -> str:
    program = shutil.which("age")
    if program is None:
        raise ArchiveError("age is not installed, and the backup has to be encrypted: apt-get install age")
    return program


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, directory: str) -> str:
    """Write one member and return its SHA-256."""
    parts = entry.name.split("/")
    if not entry.isreg() or any(part in _NAME_PARTS_REFUSED for part in parts):
        raise ArchiveError(f"{entry.name!r} does not belong into an archive of this program")
    target = os.path.join(directory, *parts)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    stream = tar.extractfile(entry)
    assert stream is not None
    sha256 = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as writer:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            sha256.update(block)
            writer.write(block)
    os.chmod(target, entry.mode & 0o777)
    return sha256.hexdigest()


def _require_format(directory: str, name: str) -> dict[str, t.Any]:
    """Return the header; a newer format is refused at once, by the first member."""
    header = _json(directory, HEADER) if name == HEADER else {}
    found = header.get("format")
    if not isinstance(found, int):
        raise ArchiveError(f"no archive of this program: its first member is {name!r}")
    if found > FORMAT:
        raise ArchiveError(
            f"the archive has the format {found}, this program reads {FORMAT} at most: update the server first"
        )
    return header


def _json(directory: str, name: str) -> dict[str, t.Any]:
    with open(os.path.join(directory, name)) as reader:
        try:
            found = json.load(reader)
        except ValueError as error:
            raise ArchiveError(f"{name} in the archive is damaged: {error}") from error
    return found if isinstance(found, dict) else {}


def _sync_directory(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
