"""Memory that is kept is not asked for again, which a fresh process shows."""

import json
import subprocess
import sys

import pytest

FAULTS = """
import json, resource, sys
import torch
from torch_model.memory import keep_memory
kept = keep_memory() if sys.argv[1] == "keep" else None
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# What lies between two of the first buffers may keep them from being taken for a third.
print(json.dumps([kept, [faults() for _ in range(12)][-1]]))
"""


def run(word):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, word],
        env={"PATH": "", "PYTHONPATH": ".", "THP_MEM_ALLOC_ENABLE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_buffer_that_was_freed_is_used_again():
    kept, with_memory = run("keep")
    if not kept:
        pytest.skip("this C library cannot be told to keep memory")
    _, without = run("plain")
    # 64 MiB are 16,384 pages.
    assert without > 16000 and with_memory < 1000
