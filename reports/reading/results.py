"""The results of a run on disk: one folder for each model, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientdet_spec import MODELS, Cause, InputError
from reports.reading import shapes
from reports.reading.shapes import Check, Unexpected
from reports.run.account import Account, account
from reports.run.digests import Digests
from reports.run.steps import RESERVED, SLUG
from reports.words.texts import as_float

FILES: Mapping[str, tuple[str, str, int, Check]] = {
    "conversion": ("conversion.json", "conversion", 1, shapes.CONVERSION),
    "nodes": ("nodes.json", "nodes", 3, shapes.NODES),
    "structure": ("structure.json", "nodes", 3, shapes.NODES),
    "coco": ("coco/coco.json", "coco", 2, shapes.COCO),
    "detect": ("detect/detect.json", "detect", 2, shapes.DETECT),
    "self_check": ("self-check.json", "self-check", 1, shapes.SELF_CHECK),
}
"""Of each result its file, the name and version of its schema, and what it must look like."""

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
    """

    folder: Path
    run: Mapping[str, Any]
    conversion: Mapping[str, Any] | None = None
    nodes: Mapping[str, Any] | None = None
    structure: Mapping[str, Any] | None = None
    coco: Mapping[str, Any] | None = None
    detect: Mapping[str, Any] | None = None
    self_check: Mapping[str, Any] | None = None
    altered: Sequence[str] = ()

    @property
    def account(self) -> Account:
        """What became of the run's steps."""
        return account(self.run)

    @property
    def slug(self) -> str:
        """The model's name in files and addresses."""
        return str(self.run["slug"])

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.run["model"])

    @property
    def structure_error(self) -> float | None:
        """Largest accumulated difference in float64, of its node's rms."""
        return as_float(self.structure["largest_relative_max"]) if self.structure else None

    def files(self) -> list[str]:
        """The result files that there are, relative to the folder."""
        found = [FILES[name][0] for name in FILES if getattr(self, name) is not None]
        return ["run.json", *found]

    def pictures(self) -> list[str]:
        """File names of the pictures that there are, in ``detect/``."""
        entries = self.detect["images"] if self.detect else []
        names = [entry["picture"] for entry in entries if "picture" in entry]
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
    order = {name: number for number, name in enumerate(MODELS)}
    results = [_read_model(place) for place in places]
    return sorted(results, key=lambda item: (order.get(item.model, len(order)), item.slug))


def _read_model(folder: Path) -> ModelResults:
    run = _read(folder / "run.json", "run", 2, shapes.RUN)
    slug = folder.name
    if run["slug"] != slug or not SLUG.fullmatch(slug) or slug.lower() in RESERVED:
        raise InputError(
            f"{folder / 'run.json'} is of {run['slug']!r:.60}, expected its folder's name, of "
            f"letters, digits, '.', '_' and '-' and none of {', '.join(sorted(RESERVED))}; "
            f"rename the folder and the slug in the file.",
            Cause.FORMAT,
        )
    # What lies there besides is another run's, of another candidate perhaps.
    done = account(run).done
    found = {
        name: _read(folder / file, schema, version, check)
        for name, (file, schema, version, check) in FILES.items()
        if _STEPS.get(name, name) in done and (folder / file).is_file()
    }
    _check_pictures(folder, found.get("detect"))
    for name in ("nodes", "structure"):
        _check_inputs(folder / FILES[name][0], found.get(name))
    return ModelResults(folder, run, altered=_altered(folder, run), **found)


def _altered(folder: Path, run: Mapping[str, Any]) -> list[str]:
    """The results that are not as their step wrote them; what is gone is no result."""
    digests = Digests()
    names = {file for file, *_ in FILES.values()}
    return [
        name
        for step in account(run).done.values()
        for name, digest in step.get("outputs", {}).items()
        if name in names and digests.one(folder / name) != digest
    ]


def _read(path: Path, schema: str, version: int, check: Check) -> Mapping[str, Any]:
    """A result file of one schema."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({str(error):.120}); run its step again.",
            Cause.of(error),
        ) from error
    expected = f"efficientdet-parity/{schema}"
    told = (values.get("schema"), values.get("version")) if isinstance(values, dict) else None
    if told != (expected, version):
        kind = "no JSON object" if told is None else f"{told[0]!r:.40} version {told[1]!r:.10}"
        raise InputError(
            f"{path} is {kind}, expected {expected} version {version}; run its step again with "
            f"this version.",
            Cause.FORMAT,
        )
    try:
        check(values, "")
    except Unexpected as error:
        raise InputError(
            f"{path} is no {expected} that can be shown: {error}; run its step again.",
            Cause.FORMAT,
        ) from error
    found: Mapping[str, Any] = values
    return found


def _check_inputs(path: Path, nodes: Mapping[str, Any] | None) -> None:
    for node in nodes["nodes"] if nodes else []:
        number = len(nodes["inputs"]) if nodes else 0
        if not 0 <= node["input"] < number:
            raise InputError(
                f"{path} names input {node['input']} for {node['name']!r:.60}, expected one of its "
                f"{number}; run its step again.",
                Cause.FORMAT,
            )


def _check_pictures(folder: Path, detect: Mapping[str, Any] | None) -> None:
    for entry in detect["images"] if detect else []:
        name = entry.get("picture", "x.png")
        if Path(name).name != name or not name.endswith(".png") or "\0" in name or "\\" in name:
            raise InputError(
                f"{folder / FILES['detect'][0]} names the picture {name!r:.60}, expected a .png "
                f"file beside it; run its step again.",
                Cause.FORMAT,
            )
