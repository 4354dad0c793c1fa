"""All models' steps as JUnit XML, which continuous integration systems show."""

from __future__ import annotations

from collections.abc import Sequence

from parity.process.outcome import Outcome
from parity.results.junit import Case, Problem, Suite, document
from parity.results.records.run import StepResult
from reports.reading.results import ModelResults
from reports.run.account import Lack
from reports.tables.judgement import Judgement, judge


def junit(models: Sequence[ModelResults]) -> str:
    """One suite for each model with a case for each step and one for the verdict on all of it.

    What differs is a failure, what could not be done or is not shown an error; nothing that was
    asked for is skipped in silence.

    Args:
        models: The results.
    """
    return document([_suite(results) for results in models])


def _suite(results: ModelResults) -> Suite:
    account, slug = results.account, results.slug
    cases = [_case(slug, step) for step in account.done.values()]
    cases += [_lacking(results, lack) for lack in account.lacks]
    seconds = sum(case.seconds or 0.0 for case in cases)
    problem = _problem(judge(results))
    cases.append(Case(slug, "verdict", problem, output="\n".join(account.remarks)))
    return Suite(slug, cases, seconds)


def _problem(judgement: Judgement) -> Problem | None:
    """Why a model's verdict is not parity; None where it is."""
    outcome = judgement.outcome
    if outcome is Outcome.PARITY:
        return None
    told = [judgement.sentence, judgement.node, judgement.diagnosis]
    text = "; ".join(item for item in told if item)
    return Problem(outcome.value, text, text, error=outcome is Outcome.NOT_SHOWN)


def _case(slug: str, step: StepResult) -> Case:
    """A step that has come to a result."""
    problem = None
    if step.exit_code == Outcome.NOT_SHOWN.exit_code:
        text = f"{step.title}: parity is not shown"
        problem = Problem(Outcome.NOT_SHOWN.value, text, text, error=True)
    elif step.exit_code != Outcome.PARITY.exit_code:
        text = f"{step.title}: a difference was found"
        problem = Problem("differs", text, text)
    output = "reused from an earlier run" if step.reused else ""
    return Case(slug, step.name, problem, step.seconds or 0.0, output)


def _lacking(results: ModelResults, lack: Lack) -> Case:
    """A step that was asked for and has no result."""
    spent = sum(
        step.seconds or 0.0
        for step in results.run.steps
        if step.name == lack.name and not step.earlier
    )
    kind = "failed" if lack.failed else "not made"
    problem = Problem(kind, lack.reason, lack.reason, error=True)
    return Case(results.slug, lack.name, problem, spent)
