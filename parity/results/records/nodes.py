"""``efficientdet-parity/nodes``: a comparison of two networks node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Literal

from msgspec import UNSET, UnsetType, field

from efficientdet_spec import NodeKind
from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.records.closeups import CloseupResult
from parity.results.records.gradients import GradientsResult
from parity.results.records.record import Count, Figure, Record, ResultFile, Seconds, Sha256, says
from parity.results.records.shared import Checkpoint, Environment

NOT_REPEATABLE = "not-repeatable"
"""Slug of the finding that a candidate's runs do not agree with each other."""

READS_OTHER = "input-from-other-node"
"""Slug of a suspect that reads something else than it should."""

REWIRINGS = frozenset(("wiring-other", "levels-other", "cells-other", "pool-order"))
"""Slugs of statements on structure that explain layers without a counterpart, and by which a layer
near them may be taken for another node than it is meant to be."""

OTHER_FORM = "other-form"
"""Slug of the finding that the form in which it is used is not the one whose nodes were judged."""

Counts = Mapping[Verdict, Count]


class Summary(Record, frozen=True):
    """What a comparison says, in parts."""

    text: Annotated[str, says("what was found, without the outcome's name")]
    node: Annotated[str | None, says("the node to look at first; null where there is none")] = None
    diagnosis: Annotated[
        str | None,
        says("what is wrong there, or why nothing is shown; null where that is not known"),
    ] = None


class ReferenceKind(str, Enum):
    """What a candidate was compared with."""

    GRAPH = "graph"
    """The graph of this project."""
    METAGRAPH = "metagraph"
    """A checkpoint's own graph."""
    MODULE = "module"
    """A PyTorch model."""
    TRACE = "trace"
    """Tensors that were recorded before."""
    EXACT = "exact"
    """The faithful model's exact values, each rounded once; no framework computes them."""


class ReferenceDescription(Record, frozen=True):
    """What the candidate was compared with."""

    kind: Annotated[ReferenceKind, says("which kind of reference it is")]
    source: Annotated[str, says("where it came from")]
    framework: Annotated[
        str | UnsetType, says("what computes it, or has computed what was recorded")
    ] = UNSET
    notes: Annotated[
        Sequence[str] | UnsetType,
        says(
            "how a MetaGraph differs, what stands for TensorFlow where it was not run, and what "
            "of the noise could not be measured"
        ),
    ] = UNSET
    environment: Annotated[
        Environment | UnsetType, says("of a trace, under what it was recorded; as `environment`")
    ] = UNSET


class InputResult(Record, kw_only=True, frozen=True):
    """One of the inputs that both sides were run on, and what came of it."""

    source: Annotated[
        str,
        says(
            "the image file; of several in one batch the first and how many more; `generated, like "
            "a photograph` or `generated, of high amplitude`; of a trace what it was recorded on"
        ),
    ]
    height: Annotated[Count, says("of the network's input, in pixels")]
    width: Annotated[Count, says("of the network's input, in pixels")]
    batch: Annotated[Count, says("number of images run together")]
    sha256: Annotated[Sha256, says("of the input tensor's bytes (NHWC, little endian)")]
    outcome: Annotated[Outcome, says("what this input alone says")]
    counts: Annotated[Counts, says("number of nodes by verdict on it")]
    largest_relative_max: Annotated[
        Figure | None, says("the largest accumulated difference on it, of its node's rms")
    ]
    largest_node: Annotated[str | None, says("where that is")]
    seconds: Annotated[
        Mapping[str, Seconds], says("wall time by pass: `unobserved`, `free`, `isolated`")
    ]

    @property
    def size(self) -> str:
        """Batch, height and width as text."""
        pixels = f"{self.height}x{self.width}"
        return pixels if self.batch == 1 else f"{self.batch} of {pixels}"


class Reached(Record, frozen=True):
    """How far the inputs reached."""

    spread: Annotated[
        Figure | None,
        says(
            "rms of the inputs of batch norms, in the deviations that the checkpoint's moving "
            "statistics expect: the median over batch norms and inputs. 1 is as in training; "
            "beyond 4 or below 1/4 the images are unlike those of the training, or the statistics "
            "are not trained, and `text` says so"
        ),
    ] = None
    deviations: Annotated[
        Figure | None,
        says(
            "how far a single value at the input of a batch norm went from the moving mean, in "
            "moving deviations"
        ),
    ] = None
    deviations_node: Annotated[str | None, says("where that is")] = None
    score: Annotated[
        Figure | None,
        says(
            "the highest class score (sigmoid of a class logit) of the reference. A fault that "
            "acts only on confident detections shows only where scores are high; below 0.5 `text` "
            "says so"
        ),
    ] = None


class Coverage(Record, frozen=True):
    """What a verdict covers."""

    nodes: Annotated[Count, says("number of nodes of either side")]
    covered: Annotated[
        Count, says("number of those on which parity or a difference is shown on every input")
    ]
    own_inputs: Annotated[
        Count,
        says(
            "number of those that are right on the candidate's own inputs, which the reference's "
            "tensors cannot take the place of: no parity is shown there"
        ),
    ] = 0
    detectable: Annotated[
        Figure | None,
        says(
            "the error of one element, in units of its tensor's rms, that would have been seen at "
            "every covered node: of each node the smallest `detectable` of all inputs, of these "
            "the largest. Null where no node is covered"
        ),
    ] = None
    detectable_node: Annotated[str | None, says("where that is")] = None
    reached: Annotated[Reached, says("how far the inputs reached")] = Reached()
    assumed: Annotated[
        Sequence[str],
        says(
            "what no tensor and no file says, and the comparison takes for granted, such as the "
            "activation"
        ),
    ] = ()
    notes: Annotated[
        Sequence[str],
        says(
            "what cannot be seen on these inputs: nodes that read other tensors than they should "
            "without any effect, and inputs of fusions whose weight relu makes 0"
        ),
    ] = ()
    text: Annotated[
        Sequence[str],
        says('all of this in sentences, as it is printed under "This verdict covers"'),
    ] = ()


class Contribution(Record, frozen=True):
    """What one node's own difference does to the outputs; the last entry is of all together."""

    nodes: Annotated[
        Sequence[str], says("the node; several where their differences were put in together")
    ]
    share: Annotated[
        Figure,
        says(
            "part of the outputs' difference that it reproduces alone; 1 is all of it, and it is "
            "negative where it works against the rest"
        ),
    ]
    size: Annotated[
        Figure, says("of its effect, relative to the outputs' difference, whatever the direction")
    ]


CONVERTED = "converted on the fly"
"""What results call a candidate that is the checkpoint itself, converted by this project."""


class Suspect(Record, frozen=True):
    """A place where something is wrong that no earlier place explains."""

    nodes: Annotated[Sequence[str], says("its nodes, all of one module")]
    verdict: Annotated[Verdict, says("on the first of them")]
    affected: Annotated[Count, says("number of nodes that depend on it")]
    outputs: Annotated[Count, says("number of the network's outputs that depend on it")]
    slug: Annotated[
        str | None,
        says("short name of what is wrong; null where no hypothesis fits or none was tried"),
    ] = None
    diagnosis: Annotated[str | None, says("the same in words")] = None
    evidence: Annotated[
        Sequence[str],
        says("what speaks for it: figures, and the parameters' relation to the checkpoint's"),
    ] = ()
    patterns: Annotated[
        Sequence[str], says("what the difference looks like, the most telling first")
    ] = ()
    tried: Annotated[bool, says("whether hypotheses were tried")] = False


class Finding(Record, frozen=True):
    """Something about the candidate that is wrong whatever its tensors are."""

    slug: Annotated[
        str,
        says(
            "short name of what it is, such as `momentum`, `eps`, `training`, `parameter-extra`, "
            "`parameter-transposed`, or `not-repeatable` where two runs on the same images, "
            "observed or not, do not give the same outputs bit for bit, or `other-form` where the "
            "form in which it is used, such as a compiled one, is more than roundings away from "
            "the one whose nodes were judged"
        ),
    ]
    place: Annotated[str, says("the parameter or node")]
    text: Annotated[str, says("what was found and what was expected")]


class Statement(Record, frozen=True):
    """What the candidate's structure has otherwise than the model's: a fact about its operations.

    It explains, and decides nothing: what it acts on is judged at the nodes.
    """

    slug: Annotated[
        str,
        says(
            "short name of what it is, such as `stride-other`, `bias-extra`, `batch-norm-missing`, "
            "`batch-norm-epsilon`, `max-pool-other`, `padding-other`, `features-other`, "
            "`activation-missing`, `batch-norm-shared` or `down-channelled-once`"
        ),
    ]
    text: Annotated[str, says("what was found, of how many layers, and what the model has")]
    nodes: Annotated[
        Sequence[str], says("nodes of the model that it is about, as far as they are not right")
    ] = ()
    places: Annotated[
        Sequence[str], says("the first lines of the candidate's code, or its modules, that do it")
    ] = ()
    other_layers: Annotated[
        bool,
        says(
            "whether layers are missing, too many or of another sort, so that a layer may be taken "
            "for another node than it is meant to be"
        ),
    ] = False


class Noise(Record, frozen=True):
    """How far one side is from itself when something is changed that should not matter."""

    side: Annotated[Literal["candidate", "reference"], says("which side it is")]
    variation: Annotated[str, says("what was changed")]
    nodes: Annotated[Count, says("number of nodes compared")]
    changed: Annotated[Count, says("number of nodes that are not the same bit for bit")]
    largest: Annotated[Figure, says("the largest difference, of its node's rms")] = field(
        name="largest_relative_max"
    )
    roundings: Annotated[
        Figure | None, says("the largest in roundings; null where the inputs of nodes differ too")
    ] = field(name="largest_roundings")
    node: Annotated[str | None, says("where the largest is; null where nothing differs")]


class DifferenceResult(Record, frozen=True):
    """A difference of two tensors.

    Its unit of rounding is `u * gauge`, where `u` is the unit roundoff, 2^-24 in float32 and 2^-53
    in float64.
    """

    rms: Annotated[
        Figure,
        says(
            "root mean square of what is compared with: the reference's tensor, in `from_exact` "
            "and `reference_from_exact` the exact one"
        ),
    ]
    rms_difference: Annotated[Figure, says("root mean square of the difference")]
    max_difference: Annotated[Figure, says("the largest absolute difference")]
    relative_rms: Annotated[Figure, says("`rms_difference` in units of `rms`")]
    relative_max: Annotated[Figure, says("`max_difference` in units of `rms`")]
    max_index: Annotated[Sequence[Count], says("where the largest difference lies, NHWC")]
    finite: Annotated[bool, says("whether all values of both are finite")]
    constant: Annotated[bool, says("whether all values of what is compared with are equal")]
    roundings: Annotated[
        Figure | None,
        says("largest `abs(difference) / (u * gauge)`; null in the free pass"),
    ] = None
    roundings_index: Annotated[Sequence[Count] | None, says("where that is")] = None


def roundings_of(difference: DifferenceResult | None) -> float | None:
    """The roundings of a difference; None where it was not measured."""
    return None if difference is None else difference.roundings


def largest_of(difference: DifferenceResult | None) -> float | None:
    """The largest of a difference in units of rms; None where it was not measured."""
    return None if difference is None else difference.relative_max


def rms_of(difference: DifferenceResult | None) -> float | None:
    """The rms of a difference in units of rms; None where it was not measured."""
    return None if difference is None else difference.relative_rms


class LimitResult(Record, frozen=True):
    """What either side may be off."""

    candidate: Annotated[Figure, says("what the roundings of `from_exact` may be")]
    reference: Annotated[Figure, says("what the roundings of `reference_from_exact` may be")]
    reason: Annotated[str, says("their derivation")]
    terms: Annotated[
        Count,
        says(
            "number K of values that one output element sums up, 1 for no sum (a sum may carry a "
            "multiple of the root of K)"
        ),
    ] = 1


class Node(Record, kw_only=True, frozen=True):
    """One node of either side."""

    name: Annotated[
        str,
        says(
            "path of the module in the faithful model; `@P4` names the level of a module that "
            "levels share"
        ),
    ]
    kind: Annotated[NodeKind | None, says("what it computes; null where only the candidate has it")]
    shape: Annotated[Sequence[Count] | None, says("NHWC; null where only the reference has it")]
    verdict: Annotated[
        Verdict,
        says(
            "`exact`: both sides within their roundings of the exact value, and equal bit for bit; "
            "`rounding`: both within their roundings; `function differs`: the candidate computes "
            "another function, that is the exact values of the two are not the same, or its shape "
            "is another, or it returns another tensor than its last layer made; `candidate "
            "differs`: its function is the right one or is not known, and its values are further "
            "from the exact ones than roundings explain, or are NaN or infinite where the exact "
            "ones are finite; `reference differs`: the candidate agrees with the exact value and "
            "the reference does not; `right on its own inputs`: the reference's tensors cannot "
            "take the place of what the candidate reads there, of which it makes what the model "
            "would; that is neither parity nor a difference; `not covered`: nothing is shown"
        ),
    ]
    reason: Annotated[str, says("why, in words, with the limit and its derivation")]
    free: Annotated[
        DifferenceResult | None,
        says("difference accumulated up to here when both sides run on their own"),
    ]
    own: Annotated[
        DifferenceResult | None,
        says("difference that the node itself makes when it is given the reference's tensors"),
    ]
    from_exact: Annotated[
        DifferenceResult | None,
        says("difference of the candidate from the exact value on these inputs"),
    ]
    reference_from_exact: Annotated[
        DifferenceResult | None, says("difference of the reference from the same exact value")
    ]
    functions_apart: Annotated[
        Figure | None,
        says(
            "how far apart two exact values are, in roundings: that of the candidate's own layer "
            "on what it really read, and that of the faithful layer. At most 1 (parameters rounded "
            "once) means one function. Looked at where the candidate is more than 16 roundings, or "
            "more than its limit, from the exact value; null elsewhere, and where the candidate's "
            "layer has no exact value, because it does not give the same output again or cannot "
            "compute in float64"
        ),
    ]
    limit: Annotated[LimitResult | None, says("what the differences from the exact value may be")]
    detectable: Annotated[
        Figure | None,
        says(
            "the largest error of one element that could go unseen on this input, in units of the "
            "tensor's rms"
        ),
    ]
    constant_channels: Annotated[Count, says("number of channels in which all values are equal")]
    certain: Annotated[
        bool,
        says(
            "whether the candidate was given the reference's very tensors; not where it lacks a "
            "node before this one"
        ),
    ] = field(name="identical_inputs")
    wrong_inputs: Annotated[
        Sequence[str],
        says("the nodes that the candidate reads here, where they are not the model's"),
    ]
    silent: Annotated[
        bool,
        says(
            "whether it is not covered for its values on this input alone (all equal, saturated, "
            "or too coarse), so that another input may show what this one does not"
        ),
    ]
    input: Annotated[
        Count,
        says(
            "the entry of `inputs`, counted from 0, that this result is of: the one on which the "
            "node is worst"
        ),
    ]
    inherited: Annotated[
        Figure | None,
        says("part of the accumulated difference (of its square) that came with the inputs"),
    ]
    amplification: Annotated[
        Figure | None,
        says("what came with the inputs, relative to the largest relative difference among them"),
    ]
    tensor: Annotated[
        str | None,
        says("name of the reference's tensor; null where only the candidate has the node"),
    ]


class ReproductionResult(Record, kw_only=True, frozen=True):
    """A failing node on its own, as a script and its tensors, or why there is none."""

    files: Annotated[
        Sequence[str], says("the script and its tensors; empty where none were written")
    ] = ()
    bytes: Annotated[Count, says("of both together")] = 0
    reason: Annotated[str | None, says("why none were written; null where they were")] = None
    node: Annotated[str | None, says("the node that is reproduced")] = None
    element: Annotated[
        Sequence[Count] | None, says("the element of its output that is looked at, NHWC")
    ] = None
    right: Annotated[Figure | None, says("what the script gives as right, in float64")] = None
    wrong: Annotated[Figure | None, says("what it gives as wrong")] = None
    recorded: Annotated[
        Figure | None,
        says(
            "what the candidate has made of the element; `wrong` is another value where the notes "
            "say that input channels were left out"
        ),
    ] = None
    roundings: Annotated[Figure | None, says("how far `wrong` is from `right`")] = None
    limit: Annotated[Figure | None, says("how far it may be")] = None
    computed: Annotated[
        bool,
        says(
            "whether the script computes the wrong value too, by a function that makes the "
            "candidate's whole output; otherwise it shows the recorded one"
        ),
    ] = False
    notes: Annotated[Sequence[str], says("what the script says about itself")] = ()
    passed_over: Annotated[
        Sequence[str],
        says("the nodes that were accused before this one and are not reproduced, and why"),
    ] = ()


class NodesResult(ResultFile, kw_only=True, frozen=True):
    """A comparison of two networks node by node."""

    schema: Annotated[Literal["efficientdet-parity/nodes"], says("what the file is")] = (
        "efficientdet-parity/nodes"
    )
    version: Annotated[Literal[3], says("the version of this schema")] = 3
    outcome: Annotated[
        Outcome,
        says(
            "`parity`: everything was compared, and nothing differs by more than its roundings "
            "(exit code 0); `difference`: something does (exit code 1); `not shown`: nothing was "
            "found to differ, but something, or everything, could not be compared (exit code 3)"
        ),
    ]
    passes: Annotated[bool, says("whether `outcome` is `parity`")]
    sentence: Annotated[
        str,
        says(
            "the outcome in one line: `PARITY: ...` with what could "
            "go unseen, `DIFFERENCE: ...` with where it begins, `NOT SHOWN: ...` with what is "
            "missing"
        ),
    ]
    summary: Annotated[Summary, says("the sentence in parts")]
    nodes_pass: Annotated[
        bool,
        says(
            "whether every node of both sides is covered and within its limit, whatever "
            "`findings`, `gradients` and `not_shown` say"
        ),
    ]
    model: Annotated[str, says("name of the model")]
    checkpoint: Annotated[Checkpoint, says("what both sides were filled from")]
    reference: Annotated[ReferenceDescription, says("what the candidate was compared with")]
    candidate: Annotated[str, says("where the candidate came from")]
    command: Annotated[
        str | None, says("makes the comparison again; null where a program made it")
    ] = None
    inputs: Annotated[
        Sequence[InputResult],
        says("one entry for each input that both sides were run on, in order", min_length=1),
    ]
    coverage: Annotated[Coverage, says("what the verdict covers")]
    not_shown: Annotated[
        Sequence[str],
        says(
            "sentences on what could not be compared besides nodes, such as what a compiler makes "
            "of a candidate; empty where there is nothing of that kind. Nodes that are not covered "
            "are not repeated here"
        ),
    ]
    dtype: Annotated[str, says("type in which both sides computed")]
    environment: Environment
    counts: Annotated[
        Counts,
        says("number of nodes by verdict, each node by the worst of its verdicts on all inputs"),
    ]
    largest_relative_max: Annotated[
        Figure | None,
        says("the largest accumulated difference among `nodes`, relative to its node's rms"),
    ]
    largest_node: Annotated[str | None, says("where that is")]
    outputs: Annotated[
        Sequence[str],
        says("the nodes that are the network's outputs: class logits P3 first, then box codes"),
    ]
    contributions: Annotated[
        Sequence[Contribution],
        says(
            "what the nodes with the largest own differences do to the outputs, the last entry all "
            "of them together; empty where that was not tried. Of the input that shows most: the "
            "first with the worst outcome"
        ),
    ]
    suspects: Annotated[
        Sequence[Suspect],
        says("where what fails begins, the most harmful first; of the same input"),
    ]
    findings: Annotated[
        Sequence[Finding], says("what is wrong with the candidate whatever its tensors are")
    ]
    structures: Annotated[
        Sequence[Statement],
        says(
            "what the candidate's structure has otherwise, as far as its operations are seen; of "
            "the input that shows most"
        ),
    ] = ()
    noise: Annotated[Sequence[Noise], says("with `--noise`, how far each side is from itself")]
    gradients: Annotated[
        GradientsResult | None,
        says(
            "with `--backward`, the comparison of gradients on the first input, schema "
            "`efficientdet-parity/gradients`; else null"
        ),
    ] = None
    closeups: Annotated[
        Sequence[CloseupResult],
        says(
            "with `--closeups N`, a closer look at suspects and at the worst nodes of the input "
            "that shows most"
        ),
    ] = ()
    reproduction: Annotated[
        ReproductionResult | None,
        says("with `--reproduce DIR`, the files that show the first suspect on its own"),
    ] = None
    seconds: Annotated[
        Mapping[str, Seconds], says("wall time by phase, of passes the sum over all inputs")
    ]
    peak_memory_bytes: Annotated[Count, says("largest resident memory of the process")]
    nodes: Annotated[
        Sequence[Node],
        says(
            "one entry for each node of either side, in the order of computation: its result on "
            "the input on which it is worst"
        ),
    ]

    def __post_init__(self) -> None:
        """Check what a field alone does not show."""
        # Files of earlier versions of the program do not know of what is judged on own inputs.
        known = [verdict for verdict in Verdict if verdict is not Verdict.OWN_INPUTS]
        missing = [verdict.value for verdict in known if verdict not in self.counts]
        if missing:
            raise ValueError(f"has no counts of {', '.join(missing)}")
        for node in self.nodes:
            if node.input >= len(self.inputs):
                raise ValueError(
                    f"names input {node.input} for {node.name!r:.60}, expected one of its "
                    f"{len(self.inputs)}"
                )

    def output_nodes(self) -> list[Node]:
        """The network's outputs, in their order."""
        by_name = {node.name: node for node in self.nodes}
        return [by_name[name] for name in self.outputs if name in by_name]

    def failures(self) -> list[Node]:
        """The nodes whose parity is not shown."""
        return [node for node in self.nodes if not node.verdict.passes]
