"""``report``: runs everything and makes the pages."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

from efficientdet_spec import InputError
from parity.commands.comparing.candidates import check_candidate
from parity.process.console import say
from parity.process.files import held
from parity.results.place import ResultPlace
from parity.settings.option import words
from parity.settings.report import ReportSettings
from reports.run.steps import Subject, subjects


def run(settings: ReportSettings, place: ResultPlace) -> int:
    """Run, make pages, say what they say.

    Args:
        settings: What is asked for.
        place: Where a result would go.

    Raises:
        InputError: Something about the input cannot be used.
    """
    found = [] if settings.from_ else subjects(settings.sources)
    check_candidate(settings.candidate)
    with held(settings.out):
        results = settings.from_ or _computed(settings, found)
        from reports.pages import render

        summary = render.render(results, settings.out, data=not settings.no_data)
    say(f"wrote {settings.out / 'index.html'}")
    say(summary.text)
    return summary.outcome.exit_code


def _computed(settings: ReportSettings, found: list[Subject]) -> Path:
    """Run everything; the folder of the results."""
    from reports.run import runner

    results = settings.results or settings.out / "results"
    command = shlex.join(["efficientdet-parity", *words(settings)])
    try:
        with held(results):
            runner.run_all(found, settings, results, command)
    except KeyboardInterrupt:
        _show_what_is_there(results, settings)
        raise
    return results


def _show_what_is_there(results: Path, settings: ReportSettings) -> None:
    """Make the pages of a run that was interrupted: they say what is missing."""
    from reports.pages import render

    # Whoever stops a program wants it to stop, whatever a page may lack.
    with contextlib.suppress(InputError):
        render.render(results, settings.out, data=not settings.no_data)
        say(
            f"the pages of what is done so far: {settings.out / 'index.html'}; the same command "
            f"goes on",
            to_errors=True,
        )
