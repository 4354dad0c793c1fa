"""Which of many alike cases are tried whenever anything is; all of them are in the heavy tests."""

import pytest


def one_in(many, cases, ids=None):
    """The cases as parameters, all but every so many-th of them marked as heavy.

    Args:
        many: Of so many cases in a row the first is not heavy.
        cases: Each a value, or a tuple of the values of several parameters.
        ids: A name for each; None for the usual ones.
    """
    marked = []
    for number, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        marks = pytest.mark.heavy if number % many else ()
        marked.append(pytest.param(*values, marks=marks, id=ids[number] if ids else None))
    return marked
