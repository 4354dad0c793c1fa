"""What became of the steps that a run was asked to make: reused, failed, or not made at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from parity.results.records.failure import Failure
from parity.results.records.run import RunResult, Status, StepResult


@dataclass(frozen=True)
class Lack:
    """A step without a result.

    Attributes:
        name: Of the step.
        title: What it does.
        reason: Why there is no result.
        failed: Whether it was tried.
    """

    name: str
    title: str
    reason: str
    failed: bool

    @property
    def text(self) -> str:
        """The same as a sentence without its stop."""
        if self.failed:
            return f"the step “{self.title}” failed: {self.reason}"
        return f"the step “{self.title}” was not made: {self.reason}"


@dataclass(frozen=True)
class Account:
    """What became of a run's steps.

    Attributes:
        done: Of each step that has a result, what ``run.json`` says of it.
        reused: Titles of those whose result an earlier run has made.
        lacks: The steps without a result, in order.
        complete: Whether the run has come to its end.
    """

    done: Mapping[str, StepResult]
    reused: tuple[str, ...]
    lacks: tuple[Lack, ...]
    complete: bool

    @property
    def remarks(self) -> list[str]:
        """What a reader of the verdict must know, in sentences."""
        found = [f"{lack.text[0].upper()}{lack.text[1:]}." for lack in self.lacks]
        if not self.complete:
            found.append("The run did not come to its end.")
        if self.reused:
            titles = ", ".join(f"“{title}”" for title in self.reused)
            found.append(f"Reused from an earlier run, whose inputs were the same: {titles}.")
        return found


def account(run: RunResult, failures: Mapping[str, Failure] = MappingProxyType({})) -> Account:
    """What became of the steps of a run.

    Args:
        run: ``run.json``.
        failures: By the name of a step, a failure that stands in the place of its result: it was
            run again by itself since.
    """
    entries = {step.name: step for step in run.steps if not step.earlier}
    titles = {step.name: step.title for step in run.planned}
    titles |= {name: step.title for name, step in entries.items()}
    done = {
        name: step
        for name, step in entries.items()
        if step.status is Status.DONE and name not in failures
    }
    lacks = [
        _lack(name, title, entries.get(name), failures.get(name)) for name, title in titles.items()
    ]
    return Account(
        done=done,
        reused=tuple(step.title for step in done.values() if step.reused),
        lacks=tuple(lack for lack in lacks if lack is not None),
        complete=run.complete,
    )


def _lack(name: str, title: str, step: StepResult | None, failure: Failure | None) -> Lack | None:
    if failure is not None:
        return Lack(name, title, failure.message, failed=True)
    if step is None:
        return Lack(name, title, "the run was interrupted before it", failed=False)
    if step.status is Status.DONE:
        return None
    failed = step.status is Status.FAILED
    return Lack(name, title, step.message or "no reason was given", failed)
