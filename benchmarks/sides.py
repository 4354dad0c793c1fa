"""Both sides of one seeded model, open in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from converter.conversion import convert
from converter.fetch.sources import default_cache, resolve
from efficientdet_spec import EfficientDetConfig


@dataclass(frozen=True)
class Sides:
    """Both sides with the same seeded weights.

    Attributes:
        config: The model.
        model: The PyTorch model.
        graphs: TensorFlow graphs.
        sessions: One for each, with every variable filled.
        images: [1, H, W, 3] at the model's native size.
    """

    config: EfficientDetConfig
    model: Any
    graphs: list[Any]
    sessions: list[Any]
    images: Any


def opened(
    model: str,
    threads: int,
    change: Sequence[Callable[[Any], object]],
    checkpoint: Path | None = None,
) -> Sides:
    """Open both sides of a model.

    Args:
        model: Its name.
        threads: Threads within one of TensorFlow's operations.
        change: For each graph that is wanted, what to do with it before its session is opened.
        checkpoint: Of the model; None: a seeded one is made.
    """
    import reference_tf
    from parity.detections.images import photograph_like
    from torch_model.checkpoint import from_arrays
    from torch_model.preprocess import preprocess

    graphs, sessions = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = checkpoint or common.seed(model, Path(name))
        files = resolve(str(folder), default_cache(), lambda done, total: None)
        conversion = convert(files, model=model)
        config = conversion.config
        candidate = from_arrays(config, conversion.arrays, source=str(files.prefix))
        for prepare in change:
            built = reference_tf.build(config, *config.image_size)
            prepare(built)
            session = reference_tf.open_session(built.graph, threads)
            built.restore(session, files.prefix, ema=True)
            graphs.append(built)
            sessions.append(session)
    size = config.image_size
    images = preprocess(photograph_like(*size), *size)[None].astype("float32")
    return Sides(config, candidate, graphs, sessions, images)
