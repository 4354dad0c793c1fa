"""The results of a run on disk: one folder for each model, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efficientdet_spec import MODELS, VARIANTS, Cause, InputError
from parity.results.reading import StepFailed, read
from parity.results.records.coco import CocoResult
from parity.results.records.conversion import ConversionResult
from parity.results.records.detect import DetectResult
from parity.results.records.failure import Failure
from parity.results.records.nodes import NodesResult
from parity.results.records.record import ResultFile
from parity.results.records.run import RunResult
from parity.results.records.self_check import SelfCheckResult
from reports.run.account import Account, account
from reports.run.digests import Digests
from reports.run.steps import RESERVED, SLUG

FILES: Mapping[str, tuple[str, type[ResultFile]]] = {
    "conversion": ("conversion.json", ConversionResult),
    "nodes": ("nodes.json", NodesResult),
    "structure": ("structure.json", NodesResult),
    "coco": ("coco/coco.json", CocoResult),
    "detect": ("detect/detect.json", DetectResult),
    "self_check": ("self-check.json", SelfCheckResult),
}
"""Of each result its file, and what it holds."""

_STEPS = {"conversion": "convert", "self_check": "self-check"}
"""The steps that are called otherwise than their results."""


@dataclass(frozen=True)
class ModelResults:
    """Everything that is known of one model.

    Attributes:
        folder: Where the files are.
        run: ``run.json``: what was run and how each step ended.
        conversion: The conversion's ledger; None where there is none, as for all others.
        nodes: The comparison of nodes.
        structure: The same in float64.
        coco: The evaluation.
        detect: The detections on single images.
        self_check: Whether known faults are found.
        altered: Files of this run that are not as their step wrote them.
        failures: By the name of a step, the failure that stands in the place of its result.
    """

    folder: Path
    run: RunResult
    conversion: ConversionResult | None = None
    nodes: NodesResult | None = None
    structure: NodesResult | None = None
    coco: CocoResult | None = None
    detect: DetectResult | None = None
    self_check: SelfCheckResult | None = None
    altered: Sequence[str] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)

    @property
    def account(self) -> Account:
        """What became of the run's steps."""
        return account(self.run, self.failures)

    @property
    def slug(self) -> str:
        """The model's name in files and addresses."""
        return self.run.slug

    @property
    def model(self) -> str:
        """The model's name."""
        return self.run.model

    @property
    def structure_error(self) -> float | None:
        """Largest accumulated difference in float64, of its node's rms."""
        return self.structure.largest_relative_max if self.structure else None

    def files(self) -> list[str]:
        """The result files that there are, relative to the folder."""
        found = [FILES[name][0] for name in FILES if getattr(self, name) is not None]
        return ["run.json", *found]

    def pictures(self) -> list[str]:
        """File names of the pictures that there are, in ``detect/``."""
        entries = self.detect.images if self.detect else []
        names = [entry.picture for entry in entries if entry.picture]
        return [name for name in names if (self.folder / "detect" / name).is_file()]


def read_results(folder: Path) -> list[ModelResults]:
    """Read every model's results, official models first and in their order.

    Args:
        folder: Holds a folder with a ``run.json`` for each model.

    Raises:
        InputError: There are none, or a file cannot be read or is something else.
    """
    try:
        places = sorted(path.parent for path in folder.glob("*/run.json"))
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}); check its rights.",
            Cause.of(error),
        ) from error
    if not places:
        raise InputError(
            f"{folder} holds no results, expected a folder with a run.json for each model; give "
            f"the folder that a run has written its results to.",
            Cause.FILE,
        )
    order = {name: number for number, name in enumerate((*MODELS, *VARIANTS))}
    results = [_read_model(place) for place in places]
    return sorted(results, key=lambda item: (order.get(item.model, len(order)), item.slug))


def _read_model(folder: Path) -> ModelResults:
    run = read(folder / "run.json", RunResult)
    slug = folder.name
    if run.slug != slug or not SLUG.fullmatch(slug) or slug.lower() in RESERVED:
        raise InputError(
            f"{folder / 'run.json'} is of {run.slug!r:.60}, expected its folder's name, of "
            f"letters, digits, '.', '_' and '-' and none of {', '.join(sorted(RESERVED))}; "
            f"rename the folder and the slug in the file.",
            Cause.FORMAT,
        )
    # What lies there besides is another run's, of another candidate perhaps.
    done = account(run).done
    found: dict[str, Any] = {}
    failures: dict[str, Failure] = {}
    for name, (file, kind) in FILES.items():
        step = _STEPS.get(name, name)
        if step in done and (folder / file).is_file():
            try:
                found[name] = read(folder / file, kind)
            except StepFailed as error:
                failures[step] = error.failure
    return ModelResults(folder, run, altered=_altered(folder, run), failures=failures, **found)


def _altered(folder: Path, run: RunResult) -> list[str]:
    """The results that are not as their step wrote them; what is gone is no result."""
    digests = Digests()
    names = {file for file, _ in FILES.values()}
    return [
        name
        for step in account(run).done.values()
        for name, digest in step.outputs.items()
        if name in names and digests.one(folder / name) != digest
    ]
