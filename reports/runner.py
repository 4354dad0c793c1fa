"""Runs what the pages are made of, model by model, and goes on where an earlier run stopped.

Each command is a process of its own: its memory is given back, and what kills it does not kill
the others. ``run.json`` in a model's folder says what was run and how it ended.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from efficientdet_spec import InputError
from parity import environment
from parity.files import make_folder, write_json, write_text
from reports import processes, steps
from reports.steps import Choice, Step, Subject

SCHEMA = "efficientdet-parity/run"
VERSION = 1

Run = Callable[[list[str]], processes.Finished]
"""Runs a command; tests replace it."""


@dataclass
class _Record:
    """A model's ``run.json`` as it grows.

    Attributes:
        folder: The model's.
        values: All but the steps.
        earlier: Steps of an earlier run by name.
        done: Steps of this one.
    """

    folder: Path
    values: dict[str, Any]
    earlier: Mapping[str, Mapping[str, Any]]
    done: list[dict[str, Any]] = field(default_factory=list)

    def add(self, entry: dict[str, Any]) -> None:
        """Write a step down; those of the earlier run stay until this one has come past them."""
        self.done.append(entry)
        names = {step["name"] for step in self.done}
        rest = [dict(step) for name, step in self.earlier.items() if name not in names]
        self._write([*self.done, *rest])

    def close(self) -> None:
        """Leave only what belongs to this run."""
        self._write(self.done)

    def _write(self, steps: list[dict[str, Any]]) -> None:
        write_json(self.folder / "run.json", {**self.values, "steps": steps})


def run_all(
    subjects: list[Subject],
    choice: Choice,
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
    subject: Subject, choice: Choice, folder: Path, command: str, run: Run = processes.run
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
    make_folder(folder)
    record = _open_record(subject, choice, folder, command)
    source, trained, converted = subject.source, True, False
    if not (subject.official and choice.seeded):
        step = steps.convert(subject, source, folder, choice)
        converted = _perform(record, step, run, tentative=subject.official)
    if not converted and subject.official:
        # Without trained weights there is still the structure to be proven.
        source, trained = str(folder / "seeded"), False
        rest = steps.comparisons(subject, source, folder, choice, trained=False)
        settled = all(_is_done(record, step) for step in rest)
        converted = True
        for step in (
            steps.seed(subject, folder),
            steps.convert(subject, source, folder, choice),
        ):
            converted = converted and _perform(record, step, run, outlived=settled)
    record.values |= {"trained": trained, "model": _model_name(folder, subject)}
    for step in steps.comparisons(subject, source, folder, choice, trained=trained):
        if converted:
            _perform(record, step, run)
        else:
            record.add(_entry(step, "skipped", message="the checkpoint was not converted"))
    if not trained:
        # Hundreds of megabytes that a command makes again at any time.
        shutil.rmtree(folder / "seeded", ignore_errors=True)
        (folder / "model.pth").unlink(missing_ok=True)
    record.close()


def _open_record(subject: Subject, choice: Choice, folder: Path, command: str) -> _Record:
    settled = {"environment": environment.describe(None), "inputs": _inputs(subject, choice)}
    values = {
        "schema": SCHEMA,
        "version": VERSION,
        "model": subject.source,
        "slug": subject.slug,
        "source": subject.source,
        "trained": True,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        **settled,
    }
    earlier: dict[str, Mapping[str, Any]] = {}
    try:
        before = json.loads((folder / "run.json").read_text("utf-8"))
        if before["version"] == VERSION and all(before[key] == settled[key] for key in settled):
            earlier = {entry["name"]: entry for entry in before["steps"]}
            values["started"] = before["started"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        # No run, or one that cannot be gone on with.
        pass
    return _Record(folder, values, earlier)


def _inputs(subject: Subject, choice: Choice) -> dict[str, str]:
    """SHA-256 of the files that say what the inputs are: a changed one is another run's."""
    source = Path(subject.source)
    paths = [*source.glob("*.index"), source, Path(f"{source}.index")]
    if choice.candidate:
        paths.append(Path(choice.candidate.partition(":")[0]))
    paths += [path for path in (choice.annotations, choice.image) if path]
    return {str(path): _sha256(path) for path in paths if path.is_file()}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); make it readable or leave it out."
        ) from error


def _perform(
    record: _Record, step: Step, run: Run, *, tentative: bool = False, outlived: bool = False
) -> bool:
    """Run a step unless it has been run; whether its result is there.

    Args:
        record: The model's.
        step: The step.
        run: Runs a command.
        tentative: Leave a failure out of the record: there is another way.
        outlived: Whether everything that was to be made of the step's files has been.
    """
    result = record.folder / step.result
    if _is_done(record, step, outlived=outlived):
        record.add(dict(record.earlier[step.name]))
        return True
    print(f"  {step.title}", file=sys.stderr, flush=True)
    # An older one must not be taken for this run's.
    result.unlink(missing_ok=True)
    finished = run(list(step.command))
    write_text(record.folder / f"{step.name}.txt", finished.output)
    done = finished.exit_code in (0, 1) and result.exists()
    entry = _entry(step, "done" if done else "failed", finished=finished)
    if done or not tentative:
        record.add(entry)
    else:
        record.values["note"] = f"No trained checkpoint: {entry['message']}"
    return done


def _is_done(record: _Record, step: Step, *, outlived: bool = False) -> bool:
    entry = record.earlier.get(step.name)
    if not entry or entry["status"] != "done" or entry["command"] != list(step.command):
        return False
    files = [step.result, "model.pth"] if step.name == "convert" else [step.result]
    return outlived or all((record.folder / name).exists() for name in files)


def _entry(
    step: Step, status: str, *, finished: processes.Finished | None = None, message: str = ""
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": step.name,
        "title": step.title,
        "command": list(step.command),
        "status": status,
        "exit_code": None,
        "message": message,
        "seconds": None,
        "peak_memory_bytes": None,
        "result": step.result if status == "done" else None,
    }
    if finished:
        entry |= {
            "exit_code": finished.exit_code,
            "message": finished.message if status == "failed" else "",
            "seconds": round(finished.seconds, 3),
            "peak_memory_bytes": finished.peak_memory,
        }
        if status == "failed" and not entry["message"]:
            entry["message"] = f"ended with exit code {finished.exit_code} and no message"
    return entry


def _model_name(folder: Path, subject: Subject) -> str:
    try:
        values = json.loads((folder / "conversion.json").read_text("utf-8"))
        return str(values["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return subject.source


def command_line(arguments: list[str]) -> str:
    """The command as a reader can type it."""
    return f"python compare.py {shlex.join(arguments)}"
