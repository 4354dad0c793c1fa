"""The key figures of a model, each with its unit and what it says."""

from __future__ import annotations

from parity.coco.published import VAL_IMAGES
from parity.results.records.coco import Agreement
from reports.pages.coverage import input_sizes
from reports.pages.elements import Fact, node_link
from reports.reading.results import ModelResults
from reports.tables.all_models import official
from reports.tables.summary import Row
from reports.words.texts import NONE, by_verdict, metric, plural, scientific, seconds, short


def facts(results: ModelResults, row: Row) -> list[Fact]:
    """The key figures; one that was not measured says why.

    Args:
        results: The model's.
        row: Its figures in the table of all models.
    """
    return [
        _nodes(results, row),
        _own(row),
        _output(row),
        _structure(results),
        _precision(row, "PyTorch"),
        _precision(row, "TensorFlow"),
        _official(row),
        _conversion(results, row),
    ]


def _tone(passes: bool | None) -> str:
    return {True: "good", False: "bad", None: "plain"}[passes]


def _nodes(results: ModelResults, row: Row) -> Fact:
    label = "Nodes with parity"
    total, failing = row.figures.nodes, row.figures.nodes_without_parity
    if results.nodes is None or total is None or failing is None:
        return Fact(label, NONE, "", "Not compared.")
    tone = _tone(failing == 0 and total > 0)
    return Fact(
        label, f"{total - failing:,}", f"of {total:,}", f"{by_verdict(results.nodes.counts)}.", tone
    )


def _own(row: Row) -> Fact:
    label, own = "Worst own error", row.figures.largest_own_error
    if own is None:
        return Fact(label, NONE, "", "Not measured.")
    within = own.roundings <= own.limit
    return Fact(
        label,
        short(own.roundings),
        f"of {own.limit:g} roundings",
        f"PyTorch from the exact value on identical inputs, at the node "
        f"{'nearest to' if within else 'furthest beyond'} its limit.",
        _tone(within),
        node_link(own.node),
    )


def _output(row: Row) -> Fact:
    label, output = "Output difference", row.figures.largest_output_difference
    if output is None:
        return Fact(label, NONE, "", "Not measured.")
    return Fact(
        label,
        scientific(output.relative_max),
        "of rms",
        "Largest difference accumulated up to any output of the network.",
        link=node_link(output.node) if output.node else None,
    )


def _structure(results: ModelResults) -> Fact:
    label, structure = "Structure proof", results.structure
    if structure is None:
        return Fact(label, NONE, "", "Not compared in float64.")
    return Fact(
        label,
        scientific(structure.largest_relative_max),
        "of rms",
        f"Largest difference at any node in float64, {input_sizes(structure)}.",
        _tone(structure.passes),
    )


def _precision(row: Row, side: str) -> Fact:
    label = f"AP {side}"
    precision = row.figures.AP
    if precision is None:
        lack = next((item for item in row.account.lacks if item.name == "coco"), None)
        reason = f"Not evaluated: {lack.reason}." if lack else "Not evaluated."
        trained = row.figures.trained
        return Fact(label, NONE, "", reason if trained else "The weights are not trained.")
    images = plural(precision.images, "image")
    if side == "TensorFlow":
        return Fact(label, metric(precision.tensorflow), "", f"COCO average precision on {images}.")
    delta = metric(precision.delta, signed=True)
    text = f"Minus TensorFlow's: {delta}, on {images}."
    return Fact(label, metric(precision.torch), "", text)


def _official(row: Row) -> Fact:
    label = "AP official"
    precision = row.figures.AP
    if precision is None or precision.official is None:
        return Fact(label, NONE, "", "Nothing to compare with.")
    told = "comparable" if precision.official_comparable else "not comparable with the AP here"
    told = precision.official_text or told
    text = f"Published by Google for the {VAL_IMAGES:,} images of val2017; {told}."
    # An AP that cannot be compared says nothing good.
    passes = {Agreement.AGREES: True, Agreement.DIFFERS: False}.get(
        precision.official_verdict or Agreement.NOT_COMPARABLE
    )
    return Fact(label, official(precision), "", text, _tone(passes))


def _conversion(results: ModelResults, row: Row) -> Fact:
    label = "Conversion"
    if results.conversion is None:
        return Fact(label, NONE, "", "No account of a conversion.")
    variables = results.conversion.ledger.variables
    used = sum(item.is_used for item in variables)
    return Fact(
        label,
        seconds(row.figures.convert_seconds),
        "",
        f"{used:,} of {plural(len(variables), 'variable')} used, the others excluded for a reason.",
    )
