"""What the comparison of nodes covers: the inputs it was run on, and what they can show."""

from __future__ import annotations

from parity.results.records.nodes import InputResult, NodesResult
from reports.pages.elements import Table, node_link
from reports.words.texts import NONE, by_verdict, plural, scientific


def input_sizes(nodes: NodesResult) -> str:
    """The inputs in few words, such as ``2 inputs of 512×512``.

    Args:
        nodes: The comparison.
    """
    sizes = dict.fromkeys(f"{item.height}×{item.width}" for item in nodes.inputs)
    number = len(nodes.inputs)
    shown = ", ".join(sizes)
    return shown if number == 1 else f"{plural(number, 'input')} of {shown}"


def inputs_table(nodes: NodesResult) -> Table:
    """Each input with what was found on it.

    Args:
        nodes: The comparison.
    """
    rows = []
    for item in nodes.inputs:
        worst = item.largest_node
        rows.append(
            [
                item.source,
                f"{item.batch}×{item.height}×{item.width}",
                item.outcome.value,
                by_verdict(item.counts) or NONE,
                scientific(item.largest_relative_max),
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


def input_text(item: InputResult) -> str:
    """One input with all that identifies it.

    Args:
        item: An entry of ``inputs``.
    """
    number = f", a batch of {item.batch} images" if item.batch != 1 else ""
    return f"{item.source}, {item.height}×{item.width} pixels{number}, SHA-256 {item.sha256}"
