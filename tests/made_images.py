"""An image for tests that is quickly made."""

import numpy as np


def waves(height, width, seed=0):
    """A reproducible [height, width, 3] RGB image with smooth, sharp and noisy parts.

    Every part of a network should have something to do: waves for the coarse levels, edges and
    noise for the fine ones, and no two rows, columns or channels alike.

    Args:
        height: In pixels.
        width: In pixels.
        seed: Of the noise.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rng = np.random.default_rng(seed)
    channels = [
        128
        + 50 * np.sin(x / (17 + 5 * k) + k) * np.cos(y / (23 - 4 * k))
        + 40 * np.sign(np.sin(x / 41 + k) * np.sin((x + 2 * y) / 67 - k))
        + rng.normal(0, 12, (height, width))
        for k in range(3)
    ]
    levels = np.clip(np.rint(np.stack(channels, axis=-1)), 0, 255)
    return levels.astype(np.uint8)
