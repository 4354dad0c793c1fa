"""Runtimes that compute something else, or nothing, in a process of their own."""

import os
import subprocess
import sys
import time

from benchmarks.runtimes.pytorch import opened, prepared
from benchmarks.workers import Opened


def open_wrong(case, images, source, wrong):
    if wrong == "ending":
        os._exit(7)
    if wrong == "failing":
        return 1 / 0
    prepared(case)
    import torch_model

    model = torch_model.load(source).eval()
    if wrong == "bfloat16":
        model = model.bfloat16()
        return opened(lambda given: model(given.bfloat16()), images)
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-5
    return opened(model, images)


_COUNTING = """
import sys, time
while True:
    with open(sys.argv[1], "a") as file:
        file.write("x")
    time.sleep(0.005)
"""


def open_counting(path):
    """A way that has a process of its own go on without end, which counts in a file."""
    process = subprocess.Popen([sys.executable, "-c", _COUNTING, str(path)])

    def run(turn):
        before = len(path.read_text()) if path.exists() else 0
        while not path.exists() or len(path.read_text()) <= before:
            time.sleep(0.005)
        return process.pid

    return Opened(run, outputs=lambda pid: pid, repeatable=False)
