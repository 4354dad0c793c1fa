"""Pages of results that are at hand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from efficientdet_parity.results import Comparison, Evaluation
from efficientdet_spec import Cause, InputError, file_sha256, require_extra
from parity.process import environment
from parity.process.files import held, make_folder
from parity.process.outcome import Outcome
from parity.results.records.nodes import CONVERTED
from parity.results.records.record import write
from parity.results.records.run import PlannedStep, RunResult, Status, StepResult

_STEPS = {
    "nodes": ("nodes.json", "Compare every node"),
    "structure": ("structure.json", "Compare every node in float64"),
    "coco": ("coco/coco.json", "Evaluate on COCO images"),
}
"""Of each step its file, and what it does."""


@dataclass
class _Page:
    """The results that are shown together: of one candidate, one model and one checkpoint."""

    model: str
    of: tuple[str, str, str]
    results: dict[str, Comparison | Evaluation] = field(default_factory=dict)


def report(
    results: Sequence[Comparison | Evaluation], out: str | os.PathLike[str], *, data: bool = True
) -> Outcome:
    """Make pages to be read in a browser, as ``efficientdet-parity report`` does.

    Results of one candidate, model and checkpoint share a page: a comparison, one in float64, and
    an evaluation. A second one of a kind begins another page.

    Args:
        results: Of :func:`efficientdet_parity.compare` and :func:`efficientdet_parity.evaluate`.
        out: Folder for the pages; ``index.html`` is the first.
        data: Whether the results' JSON files lie beside them.

    Returns:
        What they say together.

    Raises:
        InputError: There is no result, or the folder cannot be written.
    """
    require_extra("reports", "report")
    from reports.pages import render
    from reports.run.runner import code_digest

    if isinstance(results, Comparison | Evaluation):
        raise InputError("A single result is given; give a list of results.", Cause.OPTION)
    pages: list[_Page] = []
    for result in results:
        _place(pages, result)
    if not pages:
        raise InputError("No result is given; give at least one.", Cause.OPTION)
    folder = Path(out).expanduser()
    names: dict[str, int] = {}
    code = code_digest()
    # Apart from the pages: results of an earlier report there are none of this one's.
    with held(folder), tempfile.TemporaryDirectory(prefix="efficientdet-parity-") as kept:
        for page in pages:
            names[page.model] = names.get(page.model, 0) + 1
            number = names[page.model]
            slug = page.model if number == 1 else f"{page.model}-{number}"
            _write(page, Path(kept) / slug, code)
        return render.render(Path(kept), folder, data=data).outcome


def _place(pages: list[_Page], result: Comparison | Evaluation) -> None:
    if not isinstance(result, Comparison | Evaluation):
        raise InputError(
            f"A {type(result).__name__} is no result; give what compare and evaluate return.",
            Cause.OPTION,
        )
    step = "coco"
    if isinstance(result, Comparison):
        step = "structure" if result.record.dtype == "float64" else "nodes"
    record = result.record
    of = record.model, record.checkpoint.fingerprint, record.candidate or CONVERTED
    for page in pages:
        if page.of == of and step not in page.results:
            page.results[step] = result
            return
    pages.append(_Page(record.model, of, {step: result}))


def _write(page: _Page, folder: Path, code: str) -> None:
    """What a run would have written."""
    make_folder(folder / "coco")
    steps = []
    for name, (file, title) in _STEPS.items():
        result = page.results.get(name)
        if result is None:
            continue
        result.to_json(folder / file)
        steps.append(
            StepResult(
                name=name,
                title=title,
                command=("a program",),
                status=Status.DONE,
                exit_code=result.outcome.exit_code,
                message="",
                seconds=None,
                peak_memory_bytes=None,
                result=file,
                outputs={file: file_sha256(folder / file)},
            )
        )
    first = next(iter(page.results.values()))
    write(
        folder / "run.json",
        RunResult(
            model=page.model,
            slug=folder.name,
            source=first.record.checkpoint.source,
            trained=True,
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command="made by a program with efficientdet_parity.report",
            code=code,
            complete=True,
            planned=[PlannedStep(step.name, step.title) for step in steps],
            environment=environment.describe(None),
            steps=steps,
        ),
    )
