"""The key figures of a model, each with its unit and what it says."""

from __future__ import annotations

from parity.coco.published import VAL_IMAGES
from reports.pages.coverage import input_sizes
from reports.pages.elements import Fact, node_link
from reports.reading.results import ModelResults
from reports.tables.all_models import official
from reports.tables.summary import Row
from reports.words.texts import NONE, metric, plural, scientific, seconds, short


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
        _structure(results, row),
        _precision(row, "PyTorch"),
        _precision(row, "TensorFlow"),
        _official(row),
        _conversion(results, row),
    ]


def _tone(passes: bool | None) -> str:
    return {True: "good", False: "bad", None: "plain"}[passes]


def _nodes(results: ModelResults, row: Row) -> Fact:
    label = "Nodes with parity"
    if results.nodes is None or row.nodes is None or row.failing is None:
        return Fact(label, NONE, "", "Not compared.")
    counts = [f"{number:,} {name}" for name, number in results.nodes["counts"].items() if number]
    return Fact(
        label,
        f"{row.nodes - row.failing:,}",
        f"of {row.nodes:,}",
        f"{', '.join(counts)}.",
        _tone(row.failing == 0 and row.nodes > 0),
    )


def _own(row: Row) -> Fact:
    label = "Worst own error"
    if row.own is None:
        return Fact(label, NONE, "", "Not measured.")
    within = row.own.roundings <= row.own.limit
    return Fact(
        label,
        short(row.own.roundings),
        f"of {row.own.limit:g} roundings",
        f"PyTorch from the exact value on identical inputs, at the node "
        f"{'nearest to' if within else 'furthest beyond'} its limit.",
        _tone(within),
        node_link(row.own.node),
    )


def _output(row: Row) -> Fact:
    label = "Output difference"
    if row.output is None:
        return Fact(label, NONE, "", "Not measured.")
    return Fact(
        label,
        scientific(row.output),
        "of rms",
        "Largest difference accumulated up to any output of the network.",
        link=node_link(row.output_node) if row.output_node else None,
    )


def _structure(results: ModelResults, row: Row) -> Fact:
    label = "Structure proof"
    if results.structure is None:
        return Fact(label, NONE, "", "Not compared in float64.")
    return Fact(
        label,
        scientific(row.structure),
        "of rms",
        f"Largest difference at any node in float64, {input_sizes(results.structure)}.",
        _tone(row.structure_passes),
    )


def _precision(row: Row, side: str) -> Fact:
    label = f"AP {side}"
    precision = row.precision
    if precision is None:
        lack = next((item for item in row.account.lacks if item.name == "coco"), None)
        reason = f"Not evaluated: {lack.reason}." if lack else "Not evaluated."
        return Fact(label, NONE, "", reason if row.trained else "The weights are not trained.")
    images = plural(precision.images, "image")
    if side == "TensorFlow":
        return Fact(label, metric(precision.tensorflow), "", f"COCO average precision on {images}.")
    delta = metric(precision.delta, signed=True)
    text = f"Minus TensorFlow's: {delta}, on {images}."
    return Fact(label, metric(precision.torch), "", text)


def _official(row: Row) -> Fact:
    label = "AP official"
    if row.precision is None or row.precision.official is None:
        return Fact(label, NONE, "", "Nothing to compare with.")
    told = "comparable" if row.precision.comparable else "not comparable with the AP here"
    text = f"Published by Google for the {VAL_IMAGES:,} images of val2017; {told}."
    return Fact(label, official(row), "", text)


def _conversion(results: ModelResults, row: Row) -> Fact:
    label = "Conversion"
    if results.conversion is None:
        return Fact(label, NONE, "", "No account of a conversion.")
    variables = results.conversion["ledger"]["variables"]
    used = sum(item["use"] != "excluded" for item in variables)
    return Fact(
        label,
        seconds(row.convert_seconds),
        "",
        f"{used:,} of {plural(len(variables), 'variable')} used, the others excluded for a reason.",
    )
