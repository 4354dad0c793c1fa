"""What the comparison of nodes covers: the inputs it was run on, and what they can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.pages.elements import Table, node_link
from reports.words.texts import NONE, plural, scientific


def input_sizes(nodes: Mapping[str, Any]) -> str:
    """The inputs in few words, such as ``2 inputs of 512×512``.

    Args:
        nodes: The comparison.
    """
    sizes = dict.fromkeys(f"{item['height']}×{item['width']}" for item in nodes["inputs"])
    number = len(nodes["inputs"])
    shown = ", ".join(sizes)
    return shown if number == 1 else f"{plural(number, 'input')} of {shown}"


def inputs_table(nodes: Mapping[str, Any]) -> Table:
    """Each input with what was found on it.

    Args:
        nodes: The comparison.
    """
    rows = []
    for item in nodes["inputs"]:
        counts = [f"{number:,} {name}" for name, number in item["counts"].items() if number]
        worst = item["largest_node"]
        rows.append(
            [
                item["source"],
                f"{item['batch']}×{item['height']}×{item['width']}",
                item["outcome"],
                ", ".join(counts) or NONE,
                scientific(item["largest_relative_max"]),
                node_link(worst) if worst else NONE,
            ]
        )
    return Table(
        "Inputs that every node was compared on; the verdict is the worst of them. Size: images, "
        "height and width in pixels. Difference: the largest accumulated one, of its node's rms",
        ["Input", "Size", "Outcome", "Nodes", "Difference", "At the node"],
        rows,
        [False, True, False, False, True, False],
    )


def input_text(item: Mapping[str, Any]) -> str:
    """One input with all that identifies it.

    Args:
        item: An entry of ``inputs``.
    """
    number = f", a batch of {item['batch']} images" if item["batch"] != 1 else ""
    return (
        f"{item['source']}, {item['height']}×{item['width']} pixels{number}, SHA-256 "
        f"{item['sha256']}"
    )
