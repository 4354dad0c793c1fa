"""What ``self-check`` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import parse_size
from parity.settings.option import INPUT, RESULTS, STEPS, option
from parity.settings.shared import ImageSettings, Size, size_text


@dataclass(frozen=True, kw_only=True)
class SelfCheckSettings(ImageSettings):
    """A check that the comparison finds faults."""

    COMMAND = "self-check"
    RESULT = "json"
    HELP = "put faults into the model, one at a time, and see that each is found"
    ABOUT = (
        "A comparison that passes proves something only if it could have failed. Faults of "
        "published ports are put into the faithful model, each at the first layer that makes "
        "something else with it, and compared with the reference."
    )
    EXAMPLES = (
        ("self-check efficientdet-d0/", "the usual faults"),
        ("self-check --list", "the whole catalogue, without a checkpoint"),
    )

    size: Size | None = option(
        "height and width of the network's input in pixels",
        default=(256, 256),
        group=INPUT,
        metavar="HxW",
        read=parse_size,
        written=size_text,
    )
    all: bool = option(
        "put in every fault of the catalogue, which takes minutes", group=STEPS, default=False
    )
    json: Path | None = option(
        "write the result as JSON", default=None, group=RESULTS, metavar="FILE"
    )

    def needs(self) -> Sequence[str]:
        """TensorFlow, which computes the reference."""
        return ("tensorflow",)
