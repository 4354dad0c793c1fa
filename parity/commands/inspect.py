"""``inspect``: what a file is, of which model, with which values, and whether they are known."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET

from converter.conversion import account, files_at, open_source
from converter.fetch.cached import CheckpointFiles
from converter.formats.source import TensorSource
from converter.ledger import Ledger
from converter.listing import account_lines
from converter.origin import CERTAIN
from efficientdet_spec import EMA_SUFFIX, InputError, listed, printable
from parity.commands.asking.options import (
    check_results,
    convert_checkpoint,
    hyperparameters_of,
    resolve_checkpoint,
)
from parity.commands.convert import ledger_record
from parity.process.console import output_width, say
from parity.results.place import ResultPlace
from parity.results.records.conversion import Provenance
from parity.results.records.inspection import InspectedFile, InspectionResult
from parity.results.records.record import made, plain
from parity.settings.inspect import InspectSettings
from parity.settings.option import PRINTED

_SHOWN = 6
_TITLE = 16


def run(settings: InspectSettings, place: ResultPlace) -> int:
    """Look at a file, print what it is, and write it.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Raises:
        InputError: The file is damaged, or holds no model that is known; what can be said of it
            has been printed by then.
    """
    files = resolve_checkpoint(settings)
    check_results([settings.result_file], [settings.checkpoint], files.prefix, place)
    source = open_source(files)
    ledger: Ledger | None = None
    provenance: Mapping[str, Any] | None = None
    problem: InputError | None = None
    try:
        done = convert_checkpoint(settings, files)
        ledger, provenance = done.ledger, done.provenance
    except InputError as error:
        problem = error
        ledger = _account(settings, files, source)
    found = _collect(files, source, ledger, provenance, problem)
    if settings.json == PRINTED:
        say(json.dumps(plain(found), indent=2))
    else:
        place.write(found)
        say("\n".join(_lines(found, ledger, output_width())))
    if problem is not None:
        raise problem
    return 0


def _account(
    settings: InspectSettings, files: CheckpointFiles, source: TensorSource
) -> Ledger | None:
    """The account of a file whose values cannot be used; None where no model is recognised."""
    try:
        return account(
            files,
            model=settings.model,
            num_classes=settings.num_classes,
            weights=settings.weights,
            hyperparameters=hyperparameters_of(settings, files),
            source=source,
        )
    except InputError:
        return None


def _collect(
    files: CheckpointFiles,
    source: TensorSource,
    ledger: Ledger | None,
    provenance: Mapping[str, Any] | None,
    problem: InputError | None,
) -> InspectionResult:
    return InspectionResult(
        source=files.origin,
        container=source.FORMAT,
        says=source.SAYS,
        files=[
            InspectedFile(path=printable(path), bytes=path.stat().st_size)
            for path in files_at(files.prefix)
        ],
        names=source.naming.name,
        tensors=len(source.entries),
        values=_values(source),
        model=UNSET if ledger is None else ledger.config.name,
        config=UNSET if ledger is None else ledger.config.to_dict(),
        provenance=UNSET if provenance is None else made(Provenance, provenance),
        ledger=UNSET if ledger is None else ledger_record(ledger),
        problem=UNSET if problem is None else str(problem),
    )


def _values(source: TensorSource) -> str:
    """Which values of each variable a file has."""
    if source.ONLY_VALUE:
        return "one"
    averages = {
        name.removesuffix(EMA_SUFFIX) for name in source.entries if name.endswith(EMA_SUFFIX)
    }
    if not averages:
        return "raw"
    return "ema and raw" if averages & source.entries.keys() else "ema"


_VALUES = {
    "one": "one of each variable",
    "raw": "raw values, no moving averages",
    "ema": "moving averages (EMA) alone",
    "ema and raw": "raw values and moving averages (EMA)",
}


def _lines(found: InspectionResult, ledger: Ledger | None, width: int) -> Iterator[str]:
    """What a file is, as text."""
    size = sum(one.bytes for one in found.files) / 1e6
    what = "1 file" if len(found.files) == 1 else f"{len(found.files)} files"
    rows = [
        ("container", f"{found.says} ({what}, {size:.1f} MB)"),
        ("names", found.names),
        ("tensors", f"{found.tensors:,}"),
        ("values", _VALUES[found.values]),
        *_provenance_rows(found.provenance),
    ]
    yield found.source
    for title, text in rows:
        yield from textwrap.wrap(
            text,
            width,
            initial_indent=f"  {title.ljust(_TITLE)}",
            subsequent_indent=" " * (_TITLE + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
    if ledger is None:
        yield "  no model is recognised"
    else:
        yield from account_lines(ledger, width)


def _provenance_rows(found: Any) -> list[tuple[str, str]]:
    """What is known of the values, where all of them could be read."""
    if found is UNSET:
        return []
    rows = [
        ("stored as", listed(sorted(found.dtypes), _SHOWN)),
        ("checked", found.checked),
        ("fingerprint", f"{found.checkpoint_fingerprint} of all tensors"),
        ("", f"{found.model_fingerprint} of the model's values"),
    ]
    if found.release:
        certain = found.release.how in CERTAIN
        what = "Google's" if certain else "taken for Google's"
        rows.append(("release", f"{what} {found.release.name}, {found.release.how}"))
    else:
        rows.append(("release", "none that is known"))
    if found.licence:
        rows.append(("licence", found.licence))
    if found.converted_from is not UNSET:
        kept = found.converted_from
        rows.append(("converted from", f"{kept.source} ({kept.weights})"))
    return rows
