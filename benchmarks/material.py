"""What is measured: seeded checkpoints, what they convert to, images, exports; made once each."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.workers import Opened, Worker
from efficientdet_spec import get_config

BUILT_IN = ((480, 640), (640, 480), (427, 640), (333, 500), (640, 640), (375, 500))
"""Heights and widths of the photographs that are made where none are given."""


@dataclass(frozen=True)
class Case:
    """A network's work.

    Attributes:
        model: Its name.
        size: Height and width of the images.
        batch: Images at once.
        threads: Threads that a runtime may compute with.
    """

    model: str
    size: tuple[int, int]
    batch: int = 1
    threads: int = 2

    @staticmethod
    def native(model: str, threads: int, batch: int = 1) -> Case:
        """A model at the size that it was trained for."""
        config = get_config(model)
        return Case(config.name, config.image_size, batch, threads)

    @property
    def subject(self) -> str:
        """It in words."""
        return (
            f"{self.model}, {self.size[0]}x{self.size[1]}, batch {self.batch}, "
            f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """It as plain values."""
        size = list(self.size)
        return {"model": self.model, "size": size, "batch": self.batch, "threads": self.threads}


@dataclass(frozen=True)
class Material:
    """Files of models in a folder, which a later run finds again.

    Attributes:
        folder: Where they are.
        given: Checkpoints to take for some models, by name, in the place of seeded ones.
    """

    folder: Path
    given: dict[str, Path]

    def checkpoint(self, model: str) -> Path:
        """The folder of a model's checkpoint: what was given, or a seeded one."""
        name = get_config(model).name
        if name in self.given:
            return self.given[name].resolve()
        made = self.folder / name
        if not made.is_dir():
            temporary = self.folder / f"{name}.making"
            common.seed(name, temporary)
            temporary.rename(made)
        return made

    def prefix(self, model: str) -> Path:
        """The prefix of that checkpoint."""
        (index,) = self.checkpoint(model).glob("*.index")
        return index.with_suffix("")

    def converted(self, model: str) -> Path:
        """The same as this project's ``.pth``."""
        name = get_config(model).name
        path = self.folder / f"{name}{'-given' if name in self.given else ''}.pth"
        if not path.is_file():
            command = [sys.executable, str(common.ROOT / "convert.py"), str(self.checkpoint(model))]
            command += [str(path), "--model", name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return path

    def images(self, case: Case) -> Path:
        """[N, H, W, 3], float32, normalised, as a ``.npy`` file."""
        import numpy as np

        from parity.detections.images import photograph_like
        from torch_model.preprocess import preprocess

        height, width = case.size
        path = self.folder / f"images-{height}x{width}-{case.batch}.npy"
        if not path.is_file():
            made = [
                preprocess(photograph_like(height, width, seed=number), height, width)
                for number in range(case.batch)
            ]
            np.save(path, np.stack(made).astype(np.float32))
        return path

    def exported(self, case: Case) -> Path:
        """The model as ONNX for images of that shape, as PyTorch exports it.

        Raises:
            WayFailed: It cannot be exported.
        """
        shape = f"{case.size[0]}x{case.size[1]}-{case.batch}"
        source = self.converted(case.model)
        path = self.folder / f"{source.stem}-{shape}.onnx"
        if not path.is_file():
            worker = Worker(
                "benchmarks.material:export", {"source": source, "target": path, "case": case}
            )
            try:
                worker.opened()
            finally:
                worker.close()
        return path

    def photographs(self) -> list[Path]:
        """Built-in images as JPEG files."""
        import simplejpeg

        from parity.detections.images import photograph_like

        paths = []
        for number, (height, width) in enumerate(BUILT_IN):
            path = self.folder / f"photograph-{number}.jpg"
            if not path.is_file():
                pixels = photograph_like(height, width, seed=number)
                path.write_bytes(simplejpeg.encode_jpeg(pixels, 90))
            paths.append(path)
        return paths


def export(source: Path, target: Path, case: Case) -> Opened:
    """Write a model as ONNX by ``torch.onnx.export(dynamo=True)``; for a process of its own."""
    import torch

    import torch_model

    class Flat(torch.nn.Module):
        """ONNX knows no lists of outputs within a tuple."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            classes, boxes = self.network(images)
            return (*classes, *boxes)

    model = Flat(torch_model.load(source)).eval()
    images = torch.zeros(case.batch, 3, *case.size)
    torch.onnx.export(model, (images,), str(target), dynamo=True, opset_version=18)
    return Opened(lambda turn: None, lambda result: result)
