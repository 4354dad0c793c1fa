"""What a command writes in the place of its result when it fails."""

from __future__ import annotations

from typing import Annotated, Literal

from efficientdet_spec import Cause
from parity.process.outcome import Ending
from parity.results.records.record import ResultFile, Whole, says

CAUSES = tuple(item.value for item in (*Cause, *Ending))
"""All values of :attr:`Failure.cause`."""


class Failure(ResultFile, kw_only=True, frozen=True):
    """Why a command has no result."""

    schema: Annotated[Literal["efficientdet-parity/failure"], says("what the file is")] = (
        "efficientdet-parity/failure"
    )
    version: Annotated[Literal[1], says("the version of this schema")] = 1
    command: Annotated[str, says("the command, such as `compare.py nodes`")]
    cause: Annotated[
        str,
        says(
            "of which kind it is. A mistake in what was given: `option` (an option or setting), "
            "`file` (missing, or cannot be read or written), `format` (its content is something "
            "else, damaged, or of another version), `model` (a sound file that does not fit the "
            "model or the image), `candidate` (the user's own code fails), `missing package`, "
            "`device`, `network`, `space` (too little memory or room on a disk), `input` (anything "
            "else). Otherwise `defect` of this program, `interrupted` from the keyboard, or "
            "`terminated` by another process",
            pattern=f"^({'|'.join(CAUSES)})$",
        ),
    ]
    message: Annotated[str, says("the line that was printed")]
    exit_code: Annotated[
        Whole, says("2 for a mistake, 70 for a defect, 130 if interrupted, 143 if terminated")
    ]
