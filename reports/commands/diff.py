"""``diff``: what changed between two results."""

from __future__ import annotations

from efficientdet_spec import printable
from parity.process.console import output_width, say
from parity.process.files import check_writable
from parity.results.changes.comparison import compare_files
from parity.results.changes.text import changes_text
from parity.results.place import ResultPlace
from parity.settings.diff import DiffSettings


def run(settings: DiffSettings, place: ResultPlace) -> int:
    """Compare, print, write.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Raises:
        InputError: A file cannot be read or written.
    """
    if settings.json:
        with place.checking():
            check_writable(settings.json, [settings.old, settings.new])
    diff = compare_files(settings.old, settings.new)
    say(changes_text(diff, output_width()))
    if settings.out:
        from reports.pages.diff import render_diff

        render_diff(settings.old, settings.new, settings.out)
        say(f"\nwrote {settings.out / 'diff.html'}")
    place.write(diff)
    say(f"\n{printable(diff.sentence)}")
    return diff.outcome.exit_code
