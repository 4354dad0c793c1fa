"""``convert``: the values of one kind of file into another."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import UNSET

from converter.conversion import Account, Converting, account, examine, files_at, open_source
from converter.fetch.cached import CheckpointFiles
from converter.formats.registry import Format, check_target, target_format
from converter.formats.target import Values, ValueStream, Written, no_room
from converter.ledger import BOTH_VALUES, Ledger
from converter.listing import account_lines, listing, plain_listing, written_lines
from converter.origin import CERTAIN
from converter.progress import READING_PATIENCE, Progress
from efficientdet_spec import Cause, InputError
from parity.commands.asking.options import (
    check_results,
    converting_checkpoint,
    hyperparameters_of,
    resolve_checkpoint,
)
from parity.process.console import output_width, say
from parity.results.place import ResultPlace
from parity.results.records.conversion import (
    ConversionResult,
    LedgerResult,
    Provenance,
    Variable,
    WrittenResult,
    WrittenTensor,
)
from parity.results.records.hyperparameters import HyperparametersResult
from parity.results.records.record import made, plain
from parity.settings.convert import ConvertSettings
from parity.settings.option import PRINTED
from torch_model.saving import save_backbone


def run(settings: ConvertSettings, place: ResultPlace) -> int:
    """Convert or list, print, write.

    Args:
        settings: What is asked for.
        place: Where the result as JSON goes.

    Raises:
        InputError: Something about the input cannot be used.
    """
    started = time.perf_counter()
    kind = None if settings.list else _target(settings)
    files = resolve_checkpoint(settings)
    targets = [settings.target, settings.result_file]
    if kind is not None and kind.is_folder:
        targets = [settings.result_file]
    check_results(targets, [settings.checkpoint], files.prefix, place)
    if kind is None or settings.target is None:
        _list(settings, place, files)
        return 0
    if kind.is_folder:
        _require_own_folder(settings.target, files)
    if settings.weights == BOTH_VALUES and not kind.holds_both:
        raise no_room(kind.says)
    with converting_checkpoint(settings, files, settings.backbone) as converting:
        conversion, written = _write(settings, kind, settings.target, converting)
    seconds = round(time.perf_counter() - started, 3)
    whole = settings.backbone is None
    result = ConversionResult(
        target=str(settings.target),
        to=kind.name,
        backbone=UNSET if whole else conversion.config.name,
        model=conversion.config.name if whole else UNSET,
        config=conversion.config.to_dict() if whole else UNSET,
        provenance=made(Provenance, conversion.provenance),
        ledger=ledger_record(conversion.ledger),
        written=UNSET if written is None else _written_record(written),
        seconds=seconds,
    )
    text = summary_text(conversion, settings.target, kind, written, seconds)
    _report(settings, place, result, text)
    return 0


def _write(
    settings: ConvertSettings, kind: Format, target: Path, converting: Converting
) -> tuple[Account, Written | None]:
    """Write what is converted; a backbone alone has no account of what is written."""
    if settings.backbone is not None:
        done = converting.collect()
        save_backbone(target, done.config, done.arrays, done.provenance)
        return done, None
    if kind.stream is not None:
        return _stream(kind.stream, target, converting)
    done = converting.collect()
    assert kind.write is not None
    values = Values(
        done.config,
        done.arrays,
        done.raw,
        done.provenance,
        with_averages=not settings.no_ema,
    )
    return done, kind.write(target, values)


def _stream(
    write: Callable[[Path, ValueStream], Written], target: Path, converting: Converting
) -> tuple[Account, Written]:
    """Write values as they come."""
    accounts: list[Account] = []

    def told() -> Mapping[str, Any]:
        accounts.append(converting.finish())
        return accounts[0].provenance

    raw = converting.raw_values() if converting.ledger.raw_sources else None
    stream = ValueStream(converting.ledger.config, converting.values(), raw, told)
    written = write(target, stream)
    return accounts[0], written


def _list(settings: ConvertSettings, place: ResultPlace, files: CheckpointFiles) -> None:
    """Print what becomes of every variable, also of a file that cannot be converted.

    Raises:
        InputError: It cannot be converted.
    """
    known = hyperparameters_of(settings, files)
    source = open_source(files)
    try:
        ledger = account(
            files,
            model=settings.model,
            num_classes=settings.num_classes,
            weights=settings.weights,
            hyperparameters=known,
            backbone=settings.backbone,
            source=source,
        )
    except InputError:
        # Whoever looks for what is wrong with a file has to see what is in it.
        if settings.json != PRINTED:
            say(plain_listing(source.entries, output_width(), settings.filter))
        raise
    # An index alone can be listed too, and says nothing about values.
    unusable: InputError | None = None
    if source.has_values:
        try:
            with Progress("reading", patience=READING_PATIENCE) as progress:
                ledger = examine(source, ledger, progress)
        except InputError as error:
            unusable = error
    if unusable is not None:
        state = f"FINDING: {unusable}"
    elif source.has_values:
        state = f"all values read, {source.CHECKED}"
    else:
        state = "the index alone is there: no value was read, so no CRC32C verified"
    verified = source.has_values and unusable is None
    result = ConversionResult(ledger=ledger_record(ledger), verified=verified)
    _report(
        settings, place, result, f"{listing(ledger, output_width(), settings.filter)}\n  {state}"
    )
    ledger.require_complete(str(source.path))
    if unusable is not None:
        raise unusable


def _target(settings: ConvertSettings) -> Format:
    """What is to be written, checked before any work is done."""
    target = settings.target
    if target is None:
        raise InputError(
            "TARGET is missing; name the file or folder to write, or give --list.", Cause.OPTION
        )
    kind = target_format(target, settings.to)
    if settings.backbone is not None and kind.name != "pth":
        raise InputError(
            f"--backbone writes a .pth for load_backbone, not {kind.says}; let TARGET end in .pth.",
            Cause.OPTION,
        )
    check_target(target, kind)
    return kind


def _require_own_folder(target: Path, files: CheckpointFiles) -> None:
    """Refuse to write a checkpoint over the one that is read."""
    own = {path.absolute().parent for path in files_at(files.prefix)}
    if target.absolute() in own:
        raise InputError(
            f"{target} is the folder that {files.prefix} is read from; name another folder.",
            Cause.OPTION,
        )


def _written_record(written: Written) -> WrittenResult:
    return WrittenResult(
        files=[str(path) for path in written.files],
        tensors=[made(WrittenTensor, row) for row in written.rows],
        notes=written.notes,
    )


def ledger_record(ledger: Ledger) -> LedgerResult:
    """What is written of a conversion's account."""
    return LedgerResult(
        model=ledger.config.name,
        num_classes=ledger.config.num_classes if ledger.part is None else 0,
        weights=ledger.weights,
        counts=ledger.counts(),
        findings=[*ledger.unsettled, *map(str, ledger.findings)],
        notes=ledger.notes,
        hyperparameters=made(HyperparametersResult, ledger.hyperparameters)
        if ledger.hyperparameters
        else UNSET,
        variables=[made(Variable, row) for row in ledger.rows],
    )


def _report(
    settings: ConvertSettings, place: ResultPlace, result: ConversionResult, text: str
) -> None:
    if settings.json == PRINTED:
        say(json.dumps(plain(result), indent=2))
        return
    place.write(result)
    say(text)


def summary_text(
    conversion: Account,
    target: Path,
    kind: Format,
    written: Written | None,
    seconds: float,
) -> str:
    """What a conversion did, in a few lines.

    Args:
        conversion: The conversion.
        target: The file or folder written.
        kind: What it is.
        written: What its tensors are made of; None of a backbone.
        seconds: Wall time.
    """
    parameters = [item.pair for item in conversion.ledger.sources]
    values = sum(math.prod(pair.shape) for pair in parameters)
    provenance = conversion.provenance
    lines = [
        *account_lines(conversion.ledger, output_width()),
        f"  {values:,} values, {provenance['checked']}; checkpoint fingerprint "
        f"{provenance['checkpoint_fingerprint'][:16]}",
    ]
    release = provenance["release"]
    if release is not None:
        certain = release["how"] in CERTAIN
        what = "Google's" if certain else "taken for Google's"
        lines.append(f"  {what} {release['name']}, {release['how']}")
    files: tuple[Path, ...] = (target,)
    if written is not None:
        files = written.files
        # One tensor for each parameter, of which the account has just spoken, is not told again.
        if written.notes or len(written.rows) != len(parameters):
            lines += written_lines(written, output_width())
    size = sum(path.stat().st_size for path in files) / 1e6
    what = "" if kind.name == "pth" else f", {kind.says}"
    return "\n".join([*lines, f"wrote {target} ({size:.1f} MB{what}) in {seconds:.1f} s"])
