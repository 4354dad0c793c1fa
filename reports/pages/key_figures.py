"""The key figures of a model, each with its unit and what it says."""

from __future__ import annotations

from parity.coco.published import VAL_IMAGES
from parity.results.records.coco import Agreement
from reports.pages.coverage import input_sizes
from reports.pages.elements import Fact, node_link
from reports.reading.results import ModelResults
from reports.tables.all_models import official
from reports.tables.summary import Row
from reports.words.texts import by_verdict, metric, plural, scientific, seconds, short


def facts(results: ModelResults, row: Row) -> list[Fact]:
    """The key figures that were measured; what was not made has none.

    Args:
        results: The model's.
        row: Its figures in the table of all models.
    """
    found = [
        _nodes(results, row),
        _own(row),
        _output(row),
        _float64(results),
        _precision(row),
        _reference_precision(row),
        _official(row),
        _conversion(results, row),
    ]
    return [fact for fact in found if fact is not None]


def _tone(passes: bool | None) -> str:
    return {True: "good", False: "bad", None: "plain"}[passes]


def _nodes(results: ModelResults, row: Row) -> Fact | None:
    total, failing = row.figures.nodes, row.figures.nodes_without_parity
    if results.nodes is None or total is None or failing is None:
        return None
    tone = _tone(failing == 0 and total > 0)
    counts = f"{by_verdict(results.nodes.counts)}."
    return Fact("Nodes that agree", f"{total - failing:,}", f"of {total:,}", counts, tone)


def _own(row: Row) -> Fact | None:
    own = row.figures.largest_own_error
    if own is None:
        return None
    within = own.roundings <= own.limit
    return Fact(
        "Worst own error",
        short(own.roundings),
        f"of {own.limit:.3g} roundings",
        f"PyTorch from the exact value on identical inputs, at the node "
        f"{'nearest to' if within else 'furthest beyond'} its limit.",
        _tone(within),
        node_link(own.node),
    )


def _output(row: Row) -> Fact | None:
    output = row.figures.largest_output_difference
    if output is None:
        return None
    return Fact(
        "Output difference",
        scientific(output.relative_max),
        "of rms",
        "Largest difference accumulated up to any output of the network.",
        link=node_link(output.node) if output.node else None,
    )


def _float64(results: ModelResults) -> Fact | None:
    structure = results.structure
    if structure is None:
        return None
    return Fact(
        "Difference in float64",
        scientific(structure.largest_relative_max),
        "of rms",
        f"Largest at any node, where rounding all but vanishes; {input_sizes(structure)}.",
        _tone(structure.passes),
    )


def _precision(row: Row) -> Fact | None:
    precision = row.figures.AP
    if precision is None:
        return None
    delta = metric(precision.delta, signed=True)
    text = f"Minus TensorFlow's: {delta}, on {plural(precision.images, 'image')}."
    return Fact(f"AP {precision.title}", metric(precision.judged), "", text)


def _reference_precision(row: Row) -> Fact | None:
    precision = row.figures.AP
    if precision is None:
        return None
    text = f"COCO average precision on {plural(precision.images, 'image')}."
    return Fact("AP TensorFlow", metric(precision.tensorflow), "", text)


def _official(row: Row) -> Fact | None:
    precision = row.figures.AP
    if precision is None or precision.official is None:
        return None
    told = "comparable" if precision.official_comparable else "not comparable with the AP here"
    told = precision.official_text or told
    text = f"Published by Google for the {VAL_IMAGES:,} images of val2017; {told}."
    # An AP that cannot be compared says nothing good.
    passes = {Agreement.AGREES: True, Agreement.DIFFERS: False}.get(
        precision.official_verdict or Agreement.NOT_COMPARABLE
    )
    return Fact("AP official", official(precision), "", text, _tone(passes))


def _conversion(results: ModelResults, row: Row) -> Fact | None:
    if results.conversion is None:
        return None
    variables = results.conversion.ledger.variables
    used = sum(item.is_used for item in variables)
    return Fact(
        "Conversion",
        seconds(row.figures.convert_seconds),
        "",
        f"{used:,} of {plural(len(variables), 'variable')} used, the others excluded for a reason.",
    )
