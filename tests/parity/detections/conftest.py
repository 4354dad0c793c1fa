"""Forty images of one byte each."""

import pytest

from parity.detections.annotations import CocoImage
from parity.detections.shards import Work


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.png").write_bytes(bytes([number]))
    return Work(folder, [CocoImage(n + 100, f"{n}.png", 6, 4) for n in range(40)], 1)
