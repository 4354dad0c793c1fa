"""Unpacks the one container of an archive, or of files packed one by one, without trusting it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from converter.fetch.contents import Container, chosen, containers, may_belong
from converter.fetch.packings import (
    MAX_BYTES,
    ArchiveError,
    FolderPacking,
    Member,
    Packing,
    packing_of,
    reading,
    show,
)
from converter.tensorflow_files.naming import STATE_FILE, STATE_FILE_MAX_BYTES, parse_state_file
from efficientdet_spec import (
    Cause,
    InputError,
    file_sha256,
    locked,
    open_regular,
    sync,
    sync_folder,
)

_CHANGED = "it changed while it was read"


def extract_container(
    archive: Path,
    destination: Path,
    *,
    sha256: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Unpacks the one container of an archive into a folder, all or nothing.

    An archive is a ``.tar``, ``.tar.gz`` or ``.zip`` file with a checkpoint, a SavedModel or a
    single file of a model in it, or such a single file compressed with gzip. Every member is
    checked before anything is written. The files appear in the folder in one step, so that a
    second process or an interruption never sees or leaves half a container. If the folder already
    holds the archive's files, by their content, it is reused; if it holds files of their names and
    nothing else, it is replaced.

    Args:
        archive: The archive.
        destination: The folder to create; the archive's own folders are not kept, but for
            ``variables`` of a SavedModel.
        sha256: The archive's SHA-256 as it is known by now, or None where any will do.
        max_bytes: The largest unpacked size that is accepted.

    Returns:
        What names the container in the folder: the path of a checkpoint's ``.index`` file without
        ``.index``, a file, or ``saved_model.pb``.

    Raises:
        ArchiveError: The archive is damaged, hostile or too large, or does not hold exactly one
            container and no state file says which one is meant.
        InputError: The archive cannot be opened or the folder cannot be written.
    """
    try:
        file = open_regular(archive)
    except OSError as error:
        raise InputError(
            f"archive {show(archive)} cannot be opened ({error.strerror}); "
            "check its path and permissions",
            Cause.of(error),
        ) from error
    with file:
        with reading(archive):
            packing = packing_of(file, archive, max_bytes)
        return _unpacked(packing, destination, sha256)


def extract_files(
    folder: Path, files: Mapping[str, Path], destination: Path, *, sha256: str | None = None
) -> Path:
    """As :func:`extract_container` of files of a folder that are compressed one by one.

    Args:
        folder: The folder, for messages.
        files: The container's files by the names that they have unpacked, relative to the folder.
        destination: See :func:`extract_container`.
        sha256: Digest of the files as :class:`~converter.fetch.packings.FolderPacking` has it.

    Returns:
        See :func:`extract_container`.

    Raises:
        ArchiveError: See :func:`extract_container`.
        InputError: See :func:`extract_container`.
    """
    return _unpacked(FolderPacking(folder, files, MAX_BYTES), destination, sha256)


def _unpacked(packing: Packing, destination: Path, sha256: str | None) -> Path:
    plan = _plan(packing)
    if sha256 is not None and plan.sha256 != sha256:
        raise ArchiveError(
            f"archive {show(packing.path)} changed while it was read; try again once nobody writes "
            "to it"
        )
    if not _holds(destination, plan):
        _extract(packing, destination, plan)
    return destination / plan.place


@dataclass(frozen=True)
class _Planned:
    """A file to extract: its name, size and SHA-256 in the archive, and its name in the folder."""

    path: str
    size: int
    sha256: str
    name: str


@dataclass(frozen=True)
class _Plan:
    """What to extract.

    Attributes:
        members: By their position in the archive.
        place: What names the container, relative to the folder.
        sha256: Of the archive that was read for it, packed as it is.
    """

    members: dict[int, _Planned]
    place: str
    sha256: str

    @property
    def folders(self) -> frozenset[str]:
        """The folders in the folder."""
        parents = {str(PurePosixPath(member.name).parent) for member in self.members.values()}
        return frozenset(parents - {"."})


@dataclass(frozen=True)
class _Seen:
    """A member that may be extracted: where it is, its size and SHA-256."""

    position: int
    size: int
    sha256: str


def _plan(packing: Packing) -> _Plan:
    """Checks every member and decides what to extract."""
    files: dict[str, _Seen] = {}
    named: set[str] = set()
    total = 0
    with reading(packing.path):
        for position, member in packing.members():
            # A sparse member may claim more bytes than the archive's stream holds.
            total += member.size or 0
            if total > packing.limit:
                raise packing.too_large()
            path = str(member.path)
            if packing.SEVERAL and not may_belong(path):
                continue
            if path in files:
                raise ArchiveError(
                    f"archive {show(packing.path)} holds {show(path)} twice, expected once; "
                    "pack or download it again"
                )
            size, digest, start = _digested(member)
            total += size if member.size is None else 0
            if total > packing.limit:
                raise packing.too_large()
            files[path] = _Seen(position, size, digest)
            if member.path.name == STATE_FILE and size <= STATE_FILE_MAX_BYTES:
                target = parse_state_file(start)
                if target is not None:
                    last = PurePosixPath(target).name or STATE_FILE
                    named.add(str(member.path.with_name(last)))
        digest = packing.digest()
    container = _chosen(packing, files, named)
    return _Plan(
        members={
            files[path].position: _Planned(path, files[path].size, files[path].sha256, name)
            for path, name in container.names.items()
        },
        place=container.place,
        sha256=digest,
    )


def _digested(member: Member) -> tuple[int, str, bytes]:
    """Reads a member; returns its size, its SHA-256 and its first bytes, which may be all."""
    digest, start, size = hashlib.sha256(), b"", 0
    for chunk in member.chunks():
        digest.update(chunk)
        start = start or chunk
        size += len(chunk)
    return size, digest.hexdigest(), start


def _chosen(packing: Packing, files: Mapping[str, _Seen], named: set[str]) -> Container:
    """Picks the one container: the only one, or else the one that a state file names."""
    if not packing.SEVERAL:
        (name,) = files
        return Container({name: name}, name, name)
    found = containers(files)
    shown = ", ".join(show(one.shown) for one in found[:20])
    if not found:
        seen = ", ".join(show(path) for path in sorted(files)[:10]) or "none of its files"
        raise ArchiveError(
            f"archive {show(packing.path)} holds no TensorFlow checkpoint and no other file of a "
            f"model, found {seen}, expected a .index file and its .data files, a SavedModel "
            f"folder, or an .h5, .pb, .pth or .safetensors file; pass an archive of one of these"
        )
    one = chosen(found, named)
    if one is not None:
        return one
    if all(each.is_checkpoint for each in found):
        raise ArchiveError(
            f"archive {show(packing.path)} holds {len(found)} checkpoints ({shown}), expected one "
            "or a 'checkpoint' file that names one; unpack it and pass one of them"
        )
    raise ArchiveError(
        f"archive {show(packing.path)} holds {len(found)} models' files ({shown}), expected one; "
        "unpack it and pass one of them"
    )


def _holds(destination: Path, plan: _Plan) -> bool:
    """Tells whether the folder has every file, each with the content that the archive has."""
    # Where a link leads may be changed by whoever may not write here.
    inner = [destination / folder for folder in plan.folders]
    if any(path.is_symlink() or not path.is_dir() for path in inner):
        return False
    return all(_is_member(destination / member.name, member) for member in plan.members.values())


def _is_member(path: Path, member: _Planned) -> bool:
    try:
        status = path.lstat()
        # Where a link leads may be changed by whoever may not write here.
        if not stat.S_ISREG(status.st_mode) or status.st_size != member.size:
            return False
        return file_sha256(path) == member.sha256
    except OSError:
        return False


def _extract(packing: Packing, destination: Path, plan: _Plan) -> None:
    """Writes the planned members into a hidden folder, then moves it to its place."""
    needed = sum(member.size for member in plan.members.values())
    parent = destination.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(destination)
        free = shutil.disk_usage(parent).free
        if needed > free:
            raise InputError(
                f"folder {show(parent)} has {free:,} bytes free, but what {show(packing.path)} "
                f"holds needs {needed:,}; free some space or choose another folder",
                Cause.SPACE,
            )
        with _workspace(destination) as workspace:
            ready = workspace / "new"
            ready.mkdir()
            _write(packing, ready, plan)
            _move(ready, destination, plan, workspace / "old")
            sync_folder(parent)
    except OSError as error:
        raise InputError(
            f"folder {show(destination)} cannot be written ({error.strerror or error}); "
            "free some space, or delete it or choose another folder",
            Cause.of(error),
        ) from error


@contextmanager
def _workspace(destination: Path) -> Iterator[Path]:
    """A new folder beside the destination, which vanishes at the end.

    A lock beside it tells other processes that it is in use.
    """
    while True:
        name = f".partial-{destination.name}-{secrets.token_hex(4)}"
        workspace = destination.with_name(name)
        with locked(_lock(workspace)) as ours:
            # Whoever sweeps may have been faster.
            if ours:
                workspace.mkdir()
                try:
                    yield workspace
                finally:
                    shutil.rmtree(workspace, ignore_errors=True)
                return


def _sweep(destination: Path) -> None:
    """Removes the workspaces of processes that were killed while they extracted to here."""
    known = re.compile(rf"(\.partial-{re.escape(destination.name)}-[0-9a-f]{{8}})(\.lock)?")
    found = {
        match[1] for path in destination.parent.iterdir() if (match := known.fullmatch(path.name))
    }
    for workspace in map(destination.with_name, found):
        with contextlib.suppress(OSError), locked(_lock(workspace)) as ours:
            if ours:
                shutil.rmtree(workspace, ignore_errors=True)


def _lock(workspace: Path) -> Path:
    return workspace.with_name(workspace.name + ".lock")


def _write(packing: Packing, folder: Path, plan: _Plan) -> None:
    """Copies the planned members; the archive must still be what was checked."""
    for name in plan.folders:
        (folder / name).mkdir()
    members = packing.members()
    missing = dict(plan.members)
    while missing:
        with reading(packing.path):
            step = next(members, None)
            if step is None:
                raise ValueError(_CHANGED)
            position, member = step
            wanted = missing.pop(position, None)
            if wanted is None:
                continue
            if str(member.path) != wanted.path or member.size not in (None, wanted.size):
                raise ValueError(_CHANGED)
        _write_member(member.chunks(), packing, folder / wanted.name, wanted)
    for name in plan.folders:
        sync_folder(folder / name)
    sync_folder(folder)


def _write_member(chunks: Iterator[bytes], packing: Packing, path: Path, wanted: _Planned) -> None:
    digest = hashlib.sha256()
    left = wanted.size
    with path.open("xb") as output:
        while True:
            with reading(packing.path):
                chunk = next(chunks, None)
                left -= len(chunk or b"")
                if left < 0:
                    raise ValueError(_CHANGED)
            if chunk is None:
                break
            digest.update(chunk)
            output.write(chunk)
    with reading(packing.path):
        if digest.hexdigest() != wanted.sha256:
            raise ValueError(_CHANGED)
    sync(path)


def _move(ready: Path, destination: Path, plan: _Plan, aside: Path) -> None:
    """Puts the finished folder in its place unless another process was faster."""
    if _is_replaceable(destination, plan):
        destination.rename(aside)
    try:
        # Fails, as it should, on a file or on a folder that is not empty.
        os.rename(ready, destination)
    except OSError:
        if not _holds(destination, plan):
            raise


def _is_replaceable(destination: Path, plan: _Plan) -> bool:
    """Tells whether a folder holds nothing but files with the names of the archive's."""
    if destination.is_symlink() or not destination.is_dir():
        return False
    known = {member.name for member in plan.members.values()}
    for path in destination.iterdir():
        if path.is_dir() and not path.is_symlink():
            inner = {str(each.relative_to(destination)) for each in path.iterdir()}
            plain = not any(each.is_dir() and not each.is_symlink() for each in path.iterdir())
            if path.name not in plan.folders or not inner <= known or not plain:
                return False
        elif path.name not in known | plan.folders:
            return False
    return True
