"""The sound inputs that take seconds to make: the tiny model in every form, made once for a run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np

SMALL = {
    "a/gamma": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "a/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "a/kernel/ExponentialMovingAverage": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 9,
    "b/bias": np.array([0.5, -0.0, 3e38, 1e-45], np.float32),
    "b/half": np.arange(5, dtype=np.float16),
    "c/empty": np.zeros((0, 4), np.float32),
    "global_step": np.array(123456789, np.int64),
}
"""A few tensors of several types, as the whole of a small checkpoint."""


def ready(folder: Path) -> Path:
    """The folder with all of it, made unless it is complete.

    It holds ``tiny``, a checkpoint of the tiny model, ``tiny.pth``, its conversion, ``other`` and
    ``other.pth``, the same of other values, and ``small``, a checkpoint of a few tensors.
    """
    if (folder / "complete").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    import compare
    import convert
    from converter.bundle import write_bundle

    for name, salt in (("tiny", "seed"), ("other", "other")):
        assert compare.main(["seed", "tiny", str(folder / name), "--salt", salt]) == 0
        assert convert.main([str(folder / name), str(folder / f"{name}.pth")]) == 0
    (folder / "small").mkdir()
    write_bundle(folder / "small" / "model", SMALL)
    (folder / "small-2").mkdir()
    write_bundle(folder / "small-2" / "model", {k: v[::-1] if v.ndim else v for k, v in SMALL.items()})
    (folder / "complete").write_text("")
    return folder


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    ready(Path(sys.argv[1]))
