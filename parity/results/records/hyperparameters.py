"""What is known of a model besides its tensors, as part of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from parity.results.records.record import Record, says


class HyperparametersResult(Record, kw_only=True, frozen=True):
    """What was given besides the tensors, and what is assumed."""

    version: Annotated[Literal[1], says("the version of this record")] = 1
    sentence: Annotated[str, says("all of it in one line")]
    source: Annotated[
        Sequence[str],
        says("what was read: `config.yaml` beside the checkpoint, `--hparams`; empty for neither"),
    ]
    given: Annotated[
        Mapping[str, Any],
        says(
            "what was given and is honoured, by the official name, as it was written; a list as "
            "`image_size` is height, width, a text width x height"
        ),
    ]
    assumed: Annotated[
        Mapping[str, str],
        says(
            "what the tensors do not show and nobody has given, in words by the official name; "
            "they are the model's own"
        ),
    ]
    config: Annotated[
        Mapping[str, Any],
        says("the whole configuration that follows from these and from the file, as in the `.pth`"),
    ]
    ignored: Annotated[
        Mapping[str, Any],
        says("what was given and changes no inference, such as `learning_rate`"),
    ]
    notes: Annotated[Sequence[str], says("what a user should know although nothing is wrong")]
