"""The obvious conversion, to compare with: a loop over TensorFlow's reader, without any checks.

It recognises no model and renames no variable, so that nothing but reading, transposing and
writing takes time.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf
import torch

EMA_SUFFIX = "/ExponentialMovingAverage"


def main(prefix: str, target: str) -> None:
    reader = tf.train.load_checkpoint(prefix)
    state = {}
    for name in reader.get_variable_to_shape_map():
        if not name.endswith(EMA_SUFFIX):
            continue
        base = name[: -len(EMA_SUFFIX)]
        array = reader.get_tensor(name)
        if base.endswith("depthwise_kernel"):
            array = np.transpose(array, (2, 3, 0, 1))
        elif array.ndim == 4:
            array = np.transpose(array, (3, 2, 0, 1))
        # A scalar would come back from ascontiguousarray with one dimension.
        state[base] = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    torch.save(state, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
