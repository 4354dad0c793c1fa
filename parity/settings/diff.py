"""What ``diff`` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.settings.option import RESULTS, SIDES, Settings, option


@dataclass(frozen=True, kw_only=True)
class DiffSettings(Settings):
    """What changed between two results."""

    COMMAND = "diff"
    RESULT = "json"
    HELP = "what changed between two results of nodes: what did my last commit do?"
    ABOUT = (
        "Compares two results of nodes --json, an older and a newer one: nodes that got worse or "
        "were mended, findings that came and went, every figure that changed, and what makes the "
        "two hard to compare, such as another checkpoint or another version of PyTorch."
    )
    EXAMPLES = (
        ("diff before.json after.json", "as text"),
        ("diff before.json after.json --out changes", "also as a page"),
    )

    old: Path = option("the older result", group=SIDES, positional=True, metavar="OLD.json")
    new: Path = option("the newer one", group=SIDES, positional=True, metavar="NEW.json")
    out: Path | None = option(
        "also make a page in this folder", default=None, group=RESULTS, metavar="DIR"
    )
    json: Path | None = option(
        "write the changes as JSON", default=None, group=RESULTS, metavar="FILE"
    )

    def needs(self) -> Sequence[str]:
        """What makes pages, where one is asked for."""
        return ("reports",) if self.out else ()
