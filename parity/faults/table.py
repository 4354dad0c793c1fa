"""The catalogue in words."""

from __future__ import annotations

from parity.faults.basics.fault import EVERY, Fault
from parity.faults.catalogue import CATALOGUE, FAMILIES


def table() -> str:
    """The catalogue as Markdown: one line a fault, then those that are never put in."""
    put_in = [fault for fault in CATALOGUE if fault.without is None]
    lines = [
        f"{len(CATALOGUE)} faults under {len({fault.slug for fault in CATALOGUE})} names; "
        f"{len(put_in)} of them can be put into a model.",
        "",
        "| about | name | fault | nodes |",
        "|---|---|---|---|",
    ]
    for family, faults in FAMILIES.items():
        lines += [
            f"| {family} | `{fault.slug}` | {_escaped(fault.title)} | {_kinds(fault)} |"
            for fault in faults
        ]
    lines += ["", "Recognised, but never put in:", ""]
    lines += [f"- `{fault.slug}`: {fault.without}" for fault in CATALOGUE if fault.without]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _kinds(fault: Fault) -> str:
    if fault.kinds == EVERY:
        return "every"
    kinds = sorted(kind.value for kind in fault.kinds)
    others = sorted(kind.value for kind in EVERY - fault.kinds)
    return f"every but {', '.join(others)}" if len(kinds) > len(others) else ", ".join(kinds)
