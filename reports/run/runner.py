"""Runs what the pages are made of, model by model, and goes on where an earlier run stopped.

Each command is a process of its own: its memory is given back, and what kills it does not kill
the others. ``run.json`` in a model's folder says what the run was asked to make, what was made of
it and how, and for each step what it had read and written, so that a later run makes it again
where any of that has changed.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import structs

from efficientdet_spec import CONFIG_FILE, Cause, InputError
from parity.process import environment
from parity.process.files import make_folder, write_text
from parity.process.frames import PACKAGES, SCRIPTS
from parity.process.outcome import MISTAKE, Outcome
from parity.results.reading import read
from parity.results.records.conversion import ConversionResult
from parity.results.records.failure import Failure
from parity.results.records.record import write
from parity.results.records.run import PlannedStep, RunResult, Status, StepResult
from parity.settings.programs import ROOT
from parity.settings.report import ReportSettings
from reports.run import processes, steps
from reports.run.digests import Digests
from reports.run.steps import Step, Subject

EXIT_CODES = frozenset(outcome.exit_code for outcome in Outcome)
"""With which a command ends that has come to a result."""

CHANGING = "changed while it was read"
"""Stands for the digest of a file that was written to while a step ran."""

_CHECKPOINT = (".index", ".meta", ".data-*")
"""How the names of a checkpoint's files end."""

Run = Callable[[list[str]], processes.Finished]
"""Runs a command; tests replace it."""


@dataclass
class _Record:
    """A model's ``run.json`` as it grows.

    Attributes:
        folder: The model's.
        run: All but the steps.
        earlier: Steps of an earlier run by name.
        done: Steps of this one.
        same_code: Whether the earlier run was made by this very code.
        digests: Of the files that steps read and write.
    """

    folder: Path
    run: RunResult
    earlier: Mapping[str, StepResult]
    done: list[StepResult] = field(default_factory=list)
    same_code: bool = False
    digests: Digests = field(default_factory=Digests)

    def plan(self, planned: Sequence[Step]) -> None:
        """Write down what is to be made, so that what is not made later is missed.

        Args:
            planned: In order; those of an earlier plan are forgotten.
        """
        self.say(planned=[PlannedStep(step.name, step.title) for step in planned])
        names = {step.name for step in planned}
        self._write([step for name, step in self.earlier.items() if name in names])

    def say(self, **changes: Any) -> None:
        """Change fields of the whole; they are written with the next step."""
        self.run = structs.replace(self.run, **changes)

    def add(self, step: StepResult) -> None:
        """Write a step down; those of the earlier run stay until this one has come past them."""
        self.done.append(step)
        names = {step.name for step in self.done}
        later = [step for name, step in self.earlier.items() if name not in names]
        self._write([*self.done, *later])

    def close(self) -> None:
        """Leave only what belongs to this run, and say that it has come to its end."""
        self.say(complete=True)
        self._write(self.done)

    def _write(self, steps: Sequence[StepResult]) -> None:
        # What this run has not come past is an earlier run's: kept, but no part of this result.
        current = {step.name for step in self.done}
        marked = [structs.replace(step, earlier=step.name not in current) for step in steps]
        write(self.folder / "run.json", structs.replace(self.run, steps=marked))


def run_all(
    subjects: list[Subject],
    choice: ReportSettings,
    results: Path,
    command: str,
    run: Run = processes.run,
) -> None:
    """Run everything for every model; what fails is written down and the others go on.

    Args:
        subjects: The models.
        choice: What they have in common.
        results: For one folder each.
        command: The command line, to be repeated by a reader.
        run: Runs a command.

    Raises:
        InputError: A folder cannot be written.
    """
    for number, subject in enumerate(subjects, 1):
        print(f"[{number}/{len(subjects)}] {subject.slug}", file=sys.stderr, flush=True)
        run_one(subject, choice, results / subject.slug, command, run)


def run_one(
    subject: Subject, choice: ReportSettings, folder: Path, command: str, run: Run = processes.run
) -> None:
    """Run everything for one model.

    Args:
        subject: The model.
        choice: How.
        folder: For the results.
        command: The command line, to be repeated by a reader.
        run: Runs a command.

    Raises:
        InputError: The folder cannot be written.
    """
    make_folder(folder, below=folder.parent)
    record = _open_record(subject, choice, folder, command)
    source, trained, converted, settled = subject.source, True, False, False
    seeded = subject.official and choice.seeded
    if not seeded:
        step = steps.convert(subject, source, folder, choice)
        rest = steps.comparisons(subject, source, folder, choice, trained=True)
        record.plan([step, *rest])
        converted = _perform(record, step, run, tentative=subject.official)
    if seeded or (not converted and not record.done):
        # Without trained weights there is still the structure to be proven. A failure that is
        # written down is another matter: seeded weights must not hide a checkpoint that is damaged.
        source, trained = str(folder / "seeded"), False
        makers = [
            steps.seed(subject, folder, choice),
            steps.convert(subject, source, folder, choice),
        ]
        rest = steps.comparisons(subject, source, folder, choice, trained=False)
        record.plan([*makers, *rest])
        settled = all(step.obstacle or _is_done(record, step, outlived=True) for step in rest)
        converted = True
        for step in makers:
            converted = converted and _perform(record, step, run, outlived=settled)
    record.say(trained=trained, model=_model_name(folder, subject))
    for step in rest:
        if step.obstacle:
            record.add(_skipped(step, step.obstacle))
        elif converted:
            _perform(record, step, run, outlived=settled)
        else:
            record.add(_skipped(step, "the checkpoint was not converted"))
    if not trained:
        # Hundreds of megabytes that a command makes again at any time.
        shutil.rmtree(folder / "seeded", ignore_errors=True)
        (folder / "model.pth").unlink(missing_ok=True)
    record.close()


def _open_record(subject: Subject, choice: ReportSettings, folder: Path, command: str) -> _Record:
    run = RunResult(
        model=subject.source,
        slug=subject.slug,
        source=subject.source,
        trained=True,
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command,
        code=code_digest(),
        complete=False,
        planned=[],
        environment=environment.describe(None),
        steps=[],
    )
    try:
        before = read(folder / "run.json", RunResult)
    except InputError:
        # No run, or one that cannot be gone on with.
        return _Record(folder, run, {})
    if before.environment != run.environment:
        return _Record(folder, run, {})
    return _Record(
        folder,
        structs.replace(run, started=before.started),
        {step.name: step for step in before.steps},
        same_code=before.code == run.code,
    )


def code_digest() -> str:
    """SHA-256 over the names and contents of :func:`own_code`."""
    total = hashlib.sha256()
    for name, digest in Digests().of(own_code()).items():
        total.update(f"{name} {digest}\n".encode())
    return total.hexdigest()


def _perform(
    record: _Record, step: Step, run: Run, *, tentative: bool = False, outlived: bool = False
) -> bool:
    """Run a step unless it has been run; whether its result is there.

    Args:
        record: The model's.
        step: The step.
        run: Runs a command.
        tentative: Leave it out of the record that the network gave nothing: there is another way.
        outlived: Whether everything that was to be made of the step's files has been.
    """
    result = record.folder / step.result
    if _is_done(record, step, outlived=outlived):
        record.add(structs.replace(record.earlier[step.name], reused=True))
        return True
    reason = _why_again(record, step)
    print(
        f"  {step.title}{f': again, for {reason}' if reason else ''}", file=sys.stderr, flush=True
    )
    # An older one must not be taken for this run's.
    result.unlink(missing_ok=True)
    useless = reason and not _may_go_on(record.earlier[step.name])
    if useless or not record.same_code:
        shutil.rmtree(result.parent / "shards", ignore_errors=True)
    started = time.time_ns()
    finished = run(list(step.command))
    write_text(record.folder / f"{step.name}.txt", finished.output)
    done = finished.exit_code in EXIT_CODES and result.exists()
    entry = structs.replace(_ended(step, finished, result, done=done), again=reason)
    if done:
        entry = structs.replace(entry, **_account(record, step, finished, started))
    if done or not (tentative and entry.cause == Cause.NETWORK.value):
        record.add(entry)
    else:
        record.say(note=f"No trained checkpoint: {entry.message}")
    return done


def _may_go_on(entry: StepResult) -> bool:
    """Whether the parts that an earlier try has left can be of use: it was ended from outside."""
    return entry.status is Status.FAILED and entry.exit_code != MISTAKE


def _account(
    record: _Record, step: Step, finished: processes.Finished, started: int
) -> dict[str, Any]:
    """What a step has read and written, by digest."""
    given = command_files(step.command)
    reads = None
    if finished.reads is not None:
        # Shards that were there before are of code that the process did not need to load.
        code = own_code() if (record.folder / step.result).with_name("shards").is_dir() else []
        reads = record.digests.of(sorted({*finished.reads, *given, *code}))
        # What was changed meanwhile may be read in part only.
        for name in record.digests.changed_since(started, reads):
            if not Path(name).is_relative_to(record.folder.absolute()):
                reads[name] = CHANGING
    names = [step.result]
    for pattern in step.others:
        found = sorted(record.folder.glob(pattern))
        names += [path.relative_to(record.folder).as_posix() for path in found if path.is_file()]
    written = {name: record.digests.one(record.folder / name) for name in dict.fromkeys(names)}
    return {"reads": reads, "outputs": written}


def own_code() -> list[str]:
    """This project's files that results may depend on, code and data; pages depend on others."""
    found = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    found += (ROOT / "efficientdet_spec").glob("*.json")
    found += [ROOT / name for name in SCRIPTS]
    pages = Path(__file__).parents[1]
    return sorted(str(path) for path in found if not path.is_relative_to(pages))


def command_files(command: Sequence[str]) -> list[str]:
    """The files that a command names, those of a checkpoint included.

    What Python opens a process tells itself; what a library opens can only be known from here.

    Args:
        command: ``compare.py`` or ``convert.py`` and its arguments.
    """
    found: set[Path] = set()
    beside: set[Path] = set()
    for before, text in pairwise(command):
        if before in ("--json", "--out") or text.startswith("-"):
            continue
        # Such as port.py:build.
        for place in {Path(text), Path(text.partition(":")[0])}:
            if place.is_file():
                found.add(place)
            elif place.name or place.is_dir():
                folder, name = (place, "*") if place.is_dir() else (place.parent, place.name)
                name = name if place.is_dir() else glob.escape(name)
                files = {path for end in _CHECKPOINT for path in folder.glob(name + end)}
                found |= files
                # Where it is not there, one that comes later makes another result.
                beside |= {folder / CONFIG_FILE} if files else set()
    kept = [path for path in found if path.is_file()]
    return sorted(str(path.absolute()) for path in {*kept, *beside})


def _is_done(record: _Record, step: Step, *, outlived: bool = False) -> bool:
    return record.earlier.get(step.name) is not None and not _why_again(
        record, step, outlived=outlived
    )


def _why_again(record: _Record, step: Step, *, outlived: bool = False) -> str:
    """Why a step that has been run must be run again; empty where it need not, or never has been.

    Args:
        record: The model's.
        step: The step.
        outlived: Whether the files of seeded weights, which are deleted, may be missing.
    """
    entry = record.earlier.get(step.name)
    if entry is None:
        return ""
    if entry.status is not Status.DONE:
        failed = entry.status is Status.FAILED
        return "the last try failed" if failed else "it was not made before"
    if list(entry.command) != list(step.command):
        return "its command is another"
    if step.runs_code:
        return "a candidate's code may depend on more than the files that Python opens"
    if entry.reads is None:
        return "it is not known what it had read"
    for name, digest in {**entry.reads, **_placed(record, entry.outputs)}.items():
        if outlived and _is_passing(record, name) and not Path(name).exists():
            continue
        if digest == CHANGING:
            return f"{name} was changed while it was read"
        if record.digests.one(Path(name)) != digest:
            return f"{name} has changed"
    return ""


def _placed(record: _Record, outputs: Mapping[str, Any]) -> dict[str, Any]:
    return {str((record.folder / name).absolute()): digest for name, digest in outputs.items()}


def _is_passing(record: _Record, name: str) -> bool:
    """Whether a file belongs to seeded weights, which are deleted at the end of a run."""
    folder, path = record.folder.absolute(), Path(name)
    return path == folder / "model.pth" or path.is_relative_to(folder / "seeded")


def _skipped(step: Step, message: str) -> StepResult:
    """What is written of a step that was not tried."""
    return StepResult(
        name=step.name,
        title=step.title,
        command=step.command,
        status=Status.SKIPPED,
        exit_code=None,
        message=message,
        seconds=None,
        peak_memory_bytes=None,
        result=None,
    )


def _ended(step: Step, finished: processes.Finished, result: Path, *, done: bool) -> StepResult:
    """What is written of a step that was run.

    Args:
        step: The step.
        finished: How its process ended.
        result: The file where its result should be, or else why there is none.
        done: Whether the result is there.
    """
    entry = structs.replace(
        _skipped(step, ""),
        status=Status.DONE if done else Status.FAILED,
        exit_code=finished.exit_code,
        seconds=round(finished.seconds, 3),
        peak_memory_bytes=finished.peak_memory,
        result=step.result if done else None,
    )
    if done:
        return entry
    try:
        failure = read(result, Failure)
    except InputError:
        # Killed, or ended before it knew where to write: the last that it printed says most.
        code = finished.exit_code
        message = finished.message or f"ended with exit code {code} and no message"
        return structs.replace(entry, message=message)
    return structs.replace(entry, message=failure.message, cause=failure.cause)


def _model_name(folder: Path, subject: Subject) -> str:
    try:
        return read(folder / "conversion.json", ConversionResult).model or subject.source
    except InputError:
        return subject.source
