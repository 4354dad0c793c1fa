"""Pipes, devices, sockets, folders, links and huge files wherever a command takes a file."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import made_results

import compare
import convert
from efficientdet_spec import InputError
from fuzzing.target import MIB, Damage, Target
from fuzzing.targets.annotations import CLASSES, SOUND
from parity.process.outcome import DEFECT

_HUGE = 2**36


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _full(path: Path) -> None:
    path.symlink_to("/dev/full")


def _socket(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(_HUGE)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _unreadable(path: Path) -> None:
    # Reading it fails at once, whoever reads.
    path.symlink_to("/proc/self/mem")


ODD: dict[str, Callable[[Path], None]] = {
    "pipe": _fifo,
    "zero": _zero,
    "full": _full,
    "socket": _socket,
    "folder": _folder,
    "sparse": _sparse,
    "loop": _loop,
    "dangling": _dangling,
    "empty": _empty,
    "memory": _unreadable,
}
"""Makes each kind of odd file."""


def _commands(sound: Path, work: Path) -> dict[str, tuple[str, list[str]]]:
    """By place, the odd file relative to the folder, and the command that is to read it."""
    tiny, pth, out = str(sound / "tiny"), str(sound / "tiny.pth"), str(work / "out")
    nodes = ["nodes", tiny, "--size", "128x128"]
    coco = ["coco", tiny, "--framework", "torch", "--out", out]
    given = ["--images", str(sound), "--annotations", str(sound / "annotations.json")]
    odd, target = str(work / "odd"), str(work / "x.pth")
    found = {
        "source": ("odd", ["convert", odd, target]),
        "archive": ("odd.tar.gz", ["convert", f"{odd}.tar.gz", target]),
        "plain archive": ("odd.tar", ["convert", f"{odd}.tar", target]),
        "index": ("model/m.index", ["convert", str(work / "model"), target]),
        "named index": ("model/m.index", ["convert", str(work / "model" / "m.index"), target]),
        "data": ("model/model.data-00000-of-00001", ["convert", str(work / "model"), target]),
        "state": ("model/checkpoint", ["convert", str(work / "model"), target]),
        "target": ("odd.pth", ["convert", tiny, f"{odd}.pth"]),
        "candidate": ("odd.pth", [*nodes, "--candidate", f"{odd}.pth"]),
        "candidate code": ("odd.py", [*nodes, "--candidate", f"{odd}.py:build"]),
        "reference": ("odd.h5", [*nodes, "--reference", f"{odd}.h5"]),
        "reference pth": ("odd.pth", [*nodes, "--reference", f"{odd}.pth"]),
        "meta graph": ("odd.meta", [*nodes, "--reference", f"{odd}.meta"]),
        "names": ("odd", [*nodes, "--candidate", pth, "--names", odd]),
        "image": ("odd.png", [*nodes, "--image", f"{odd}.png"]),
        "annotations": ("odd", [*coco, "--images", str(sound), "--annotations", odd]),
        "detections": ("odd", ["coco", tiny, "--out", out, *given, "--detections", odd]),
        "coco image": ("images/a.png", [*coco, "--images", str(work / "images"), *given[2:]]),
        "coco folder": ("odd", [*coco, "--images", odd, *given[2:]]),
        "shard": ("out/shards/torch/00000.json", [*coco, *given]),
        "manifest": ("out/shards/torch/manifest.json", [*coco, *given]),
        "detect": ("odd.png", ["detect", tiny, f"{odd}.png", "--out", out]),
        "results": ("odd", ["report", "--from", odd, "--out", out]),
        "run": ("results/d0/run.json", ["report", "--from", str(work / "results"), "--out", out]),
        "nodes": (
            "results/d0/nodes.json",
            ["report", "--from", str(work / "results"), "--out", out],
        ),
        "before": ("odd", ["diff", odd, str(sound / "nodes.json"), "--out", out]),
        "after": ("odd", ["diff", str(sound / "nodes.json"), odd, "--out", out]),
    }
    return found


class Reader(Target):
    """How the command ends; each place with each odd file."""

    WHAT = "pipes, devices, sockets, folders, links, sparse files, wherever a command takes a file"
    CHECKSUMS = False
    EVERY = True
    SECONDS = 20.0
    MEMORY = 1024 * MIB

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self._places = list(_commands(material, Path()))
        pairs = [(place, odd) for place in self._places for odd in ODD]
        self.files = {"asked.json": b"[]"}
        self.damages = {"asked.json": {f"{p}: {o}": _asking(p, o) for p, o in pairs}}
        material.joinpath("nodes.json").write_text(json.dumps(made_results.nodes()), "utf-8")
        material.joinpath("annotations.json").write_text(json.dumps(SOUND), "utf-8")
        assert CLASSES == 7

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        asked = json.loads((folder / "asked.json").read_text("utf-8"))
        if not asked:
            return None
        place, odd = asked
        work = folder / "work"
        work.mkdir()
        name, words = _commands(self.material.resolve(), work)[place]
        _beside(self.material, work, place)
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        ODD[odd](path)
        return _run(words)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return value is None

    def promise(self, value: Any) -> str | None:
        code, said = value
        return f"exit code {code}: {said[-300:]}" if code not in (0, 1, 2, 3) else None

    def clean(self, folder: Path) -> None:
        shutil.rmtree(folder / "work", ignore_errors=True)


def _asking(place: str, odd: str) -> Damage:
    def damage(rng: Random, data: bytes) -> bytes:
        return json.dumps([place, odd]).encode()

    return damage


def _beside(material: Path, work: Path, place: str) -> None:
    """What is sound beside the odd file."""
    if place in ("data", "state"):
        shutil.copytree(material / "tiny", work / "model")
    if place in ("run", "nodes"):
        made_results.write_all(work / "results", "d0")


def _run(words: list[str]) -> tuple[int, str]:
    """Exit code and words of a command; a refusal is raised as one, to be judged as one."""
    said, printed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        program = convert.main if words[0] == "convert" else compare.main
        code = program(words[1:] if words[0] == "convert" else words)
    lines = [line for line in said.getvalue().splitlines() if "error: " in line or "defect" in line]
    text = lines[-1] if lines else said.getvalue()
    if code == DEFECT:
        raise RuntimeError(text)
    if code == 2:
        raise InputError(text.rpartition("error: ")[2])
    return code, text
