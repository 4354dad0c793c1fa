"""The text of the script that is written, and the names in it that its check relies on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from parity.reproduction.computation import Computation

SCRIPT, TENSORS = "reproduce.py", "reproduce.npz"
"""The files of a reproduction."""

RECORDED = "recorded"
"""What the candidate has made of the element, among the tensors."""

_WIDTH = 88


@dataclass(frozen=True)
class Facts:
    """What a script says besides what it computes.

    Attributes:
        what: What is wrong, in one sentence.
        where: The node and the element in it.
        notes: Sentences on what was kept and how it was found.
        limit: Roundings that a right implementation may be off.
        dtype: The type in which the candidate computes.
        magnitude: On what roundings act, where no function gives it.
        digest: SHA-256 of the file of tensors.
        whole: Where input channels were left out, the right value with all of them; else None.
    """

    what: str
    where: str
    notes: Sequence[str]
    limit: float
    dtype: str
    magnitude: float | None
    digest: str
    whole: float | None = None

    @property
    def digits(self) -> int:
        """Binary digits of the type, one more than its unit roundoff has."""
        return {"float32": 24, "float64": 53}[self.dtype]


def script_of(computation: Computation, facts: Facts) -> str:
    """The whole script.

    Args:
        computation: The functions; without ``wrong`` the recorded value is what is wrong.
        facts: The rest.
    """
    computed = "wrong" in computation.functions
    how = "computed here by the function wrong" if computed else "what it has made, out of the file"
    beside = ""
    if facts.whole is not None:
        beside = f" (with all input channels, of which {facts.whole:.9g} is right)"
    what = _plain(facts.what)
    notes = "\n\n".join(_wrapped(_plain(note)) for note in facts.notes)
    magnitude = (
        "value(magnitude, torch.float64, tensors)"
        if facts.magnitude is None
        else repr(facts.magnitude)
    )
    wrong = "value(wrong, DTYPE, tensors)" if computed else "own"
    functions = "\n\n".join(
        item.text(name)
        for name, item in computation.functions.items()
        if name != "magnitude" or facts.magnitude is None
    )
    return f'''"""{_wrapped(f"Wrong: {what}")}

{_wrapped(_plain(facts.where))}

{notes}

Needs PyTorch and NumPy alone, and {TENSORS} beside it:

    python {SCRIPT}
"""

import hashlib
from inspect import signature
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

WHAT = {_literal(what)}
WHERE = {_literal(_plain(facts.where))}
DIGEST = "{facts.digest}"
AT = {computation.at}  # image, channel, row and column in the output of what was kept
LIMIT = {_number(facts.limit)}  # roundings that a right implementation may be off
DTYPE = torch.{facts.dtype}
UNIT = 2.0**-{facts.digits}  # the largest relative error of one rounding in that type


{functions}

def load():
    """The tensors by name."""
    path = Path(__file__).with_name("{TENSORS}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != DIGEST:
        raise SystemExit(f"{{path}} is not the file that this script was written with.")
    with np.load(path, allow_pickle=False) as file:
        return {{name: torch.from_numpy(file[name]) for name in file.files}}


def value(function, dtype, tensors):
    """The element that a function makes of the tensors in some type."""
    given = {{name: tensors[name].to(dtype) for name in signature(function).parameters}}
    with torch.no_grad():
        return float(function(**given)[AT])


def values():
    """All that is printed."""
    tensors = load()
    own = float(tensors["{RECORDED}"])
    exact = value(right, torch.float64, tensors)
    found = {wrong}
    apart, rounding = abs(found - exact), UNIT * {magnitude}
    roundings = 0.0 if apart == 0 else float("inf")
    if rounding and apart < float("inf"):
        roundings = apart / rounding
    return {{
        "right": exact,
        "rounded": value(right, DTYPE, tensors),
        "wrong": found,
        "recorded": own,
        "difference": apart,
        "rounding": rounding,
        "roundings": roundings,
    }}


def main():
    """Print them."""
    found = values()
    print("what is wrong:", WHAT)
    print("where:", WHERE)
    print(f"right, in float64: {{found['right']:.17g}}")
    print(f"right, in {facts.dtype}: {{found['rounded']:.9g}}")
    print(f"wrong: {{found['wrong']:.9g}} ({how})")
    print(f"recorded of the candidate: {{found['recorded']:.9g}}{beside}")
    print(f"difference: {{found['difference']:.6g}}")
    print(f"in roundings: {{found['roundings']:.6g}}, where {{LIMIT:.6g}} are allowed")


if __name__ == "__main__":
    main()
'''


def _number(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else f'float("{value}")'


def _plain(text: str) -> str:
    """One line of printable ASCII that ends no string."""
    printed = "".join(c if c.isascii() and c.isprintable() else "?" for c in " ".join(text.split()))
    return printed.replace("\\", "/").replace('"', "'")


def _literal(text: str) -> str:
    """A string in double quotes, over several lines where it is long."""
    parts = textwrap.wrap(text, _WIDTH - 6, drop_whitespace=False, break_on_hyphens=False) or [""]
    if len(parts) == 1:
        return f'"{parts[0]}"'
    return "(\n" + "".join(f'    "{part}"\n' for part in parts) + ")"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _WIDTH, break_on_hyphens=False))
