"""What ``doctor`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parity.settings.option import RESULTS, option
from parity.settings.shared import CacheSettings


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(CacheSettings):
    """A look at this machine."""

    COMMAND = "doctor"
    RESULT = "json"
    HELP = "what this machine has: packages, versions, threads, GPU, data; and what is missing"
    ABOUT = (
        "Imports each framework in a process of its own, looks for optional packages, memory, "
        "disk space and downloaded checkpoints, and says for every command whether it can run and "
        "what to install where it cannot."
    )
    EXAMPLES = (("doctor", "print it"), ("doctor --json doctor.json", "for a bug report"))

    json: Path | None = option("write it as JSON", default=None, group=RESULTS, metavar="FILE")
