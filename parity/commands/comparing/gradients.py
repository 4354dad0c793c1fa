"""The comparison of gradients that goes with one of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from converter.mappings.official import iterate_pairs
from converter.progress import Progress
from parity.commands.asking.inputs import Images
from parity.commands.comparing.opened import Opened
from parity.gradients.comparison import GradientsReport, Subject, compare_gradients
from parity.gradients.sides import Gradients, map_gradients
from parity.sides.tensorflow_import import import_tensorflow


def compared_gradients(
    opened: Opened,
    candidate: Any,
    loaded: tuple[Images, dict[str, Any]],
    compared: Mapping[str, Any],
    threads: int,
) -> GradientsReport:
    """Both frameworks' gradients in both precisions, whatever the nodes were compared in.

    Args:
        opened: The checkpoint.
        candidate: What is compared.
        loaded: The images, and what to say about them.
        compared: Of the comparison of nodes, the fields of its result.
        threads: Within one operation, on both sides.

    Raises:
        InputError: TensorFlow is missing.
    """
    import_tensorflow()
    from parity.gradients.pytorch import TorchGradients
    from reference_tf.gradients import gradients

    config = opened.config
    images, described = loaded
    pairs = list(iterate_pairs(config))

    def reference(
        images: Images, patterns: Sequence[Images], *, dtype: str, training: bool
    ) -> Gradients:
        found = gradients(
            config,
            opened.files.prefix,
            images,
            patterns,
            ema=opened.settings.weights == "ema",
            dtype=dtype,
            training=training,
            threads=threads,
        )
        return Gradients(
            found.scalar,
            found.images,
            map_gradients(pairs, found.variables),
            map_gradients(pairs, found.statistics),
        )

    subject = Subject(
        model=config.name,
        checkpoint=compared["checkpoint"],
        candidate=compared["candidate"],
        images=described,
        environment=compared["environment"],
    )
    with Progress("differentiating", unit="runs") as progress:
        return compare_gradients(
            config, reference, TorchGradients(candidate), images, subject, progress=progress
        )
