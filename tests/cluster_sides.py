"""Sides and programs of the worker processes of tests; processes find them by name."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from efficientdet_spec import InputError
from parity.detections import messages, worker
from parity.detections.shards import Prepared, run


def recipe(**values):
    """A recipe for :func:`opened`.

    Args:
        values: ``log``: a file that gets a line for each opening and closing; ``failure`` and
            ``error``: what is wrong with opening it; ``fatal``: first byte of images that end the
            process; ``noise``: whether it prints, reads and writes; ``slow``: seconds for images.
    """
    return messages.Recipe(
        prefix="/a",
        config={"name": "none"},
        weights="ema",
        profile={},
        size=(1, 1),
        device="cpu",
        threads=1,
        batch=1,
        side=messages.SideName(kind="torch"),
        manifest=values,
    )


class Content:
    """A side whose one detection in an image tells the image's first byte."""

    def __init__(self, options):
        self.options = options
        self.seconds = {"network": 0.0}

    def prepare(self, path):
        if not path.is_file():
            raise InputError(f"{path} cannot be read.")
        return Prepared(4, 6, path.read_bytes()[0])

    def detect(self, images):
        if self.options.get("noise"):
            _make_noise()
        if self.options.get("fatal") in [item.value for item in images]:
            print("the last words\x1b[2J", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.options.get("slow", 0))
        return [(np.array([[0, 0, 1, item.value]]), [0.5], [0]) for item in images]


def _make_noise():
    """What code that knows of no pipes may do to them."""
    print('{"answer":"shard"}')
    sys.stdout.flush()
    os.write(1, b"from C\n" * 20_000)
    os.write(2, b"warnings\n" * 20_000)
    subprocess.run(["echo", "from a child"], check=True)
    assert sys.stdin.read() == ""
    assert subprocess.run(["cat"], capture_output=True, check=True).stdout == b""


@contextlib.contextmanager
def opened(made):
    """What opens :class:`Content` and notes it."""
    options = made.manifest
    if "failure" in options:
        raise InputError(options["failure"])
    if "error" in options:
        raise RuntimeError(options["error"])
    _note(options, "open")
    yield Content(options)
    _note(options, "close")


def _note(options, word):
    if "log" in options:
        with Path(options["log"]).open("a") as stream:
            stream.write(f"{word} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")


def main(name):
    """The program of a local worker."""
    said = os.environ.get("TEST_WORKER_SAYS")
    if said is None:
        worker.serve(opened, name)
        return
    sys.stdin.readline()
    for _ in range(int(os.environ.get("TEST_WORKER_REPEATS", "1"))):
        os.write(1, said.encode())
    sys.stdin.read()


def contents(folder):
    """What shards say, without the time they took."""
    return {
        path.name: json.loads(path.read_text()).get("images") for path in sorted(folder.iterdir())
    }


def call(folder, compute, work, progress=lambda *_: None):
    """The shards of some work, in a folder."""
    return run(folder, {"framework": "none"}, work, compute, progress)
