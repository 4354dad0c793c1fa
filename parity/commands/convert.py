"""``convert``: a TensorFlow 1 checkpoint to a PyTorch ``.pth`` file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from msgspec import UNSET

from converter.bundle import checkpoint_files, index_file, read_index
from converter.conversion import Conversion, account, examine
from converter.fetch.cached import CheckpointFiles
from converter.ledger import Ledger
from converter.listing import account_lines, listing, plain_listing
from converter.mappings.keys import Naming
from converter.mappings.state_dicts import get_naming, to_naming
from converter.origin import BY_CONTENT
from converter.progress import READING_PATIENCE, Progress
from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.commands.asking.options import (
    check_results,
    convert_checkpoint,
    hyperparameters_of,
    resolve_checkpoint,
)
from parity.process.console import output_width, say
from parity.results.place import ResultPlace
from parity.results.records.conversion import ConversionResult, LedgerResult, Provenance, Variable
from parity.results.records.hyperparameters import HyperparametersResult
from parity.results.records.record import made, plain
from parity.settings.convert import ConvertSettings
from parity.settings.option import PRINTED

SETTINGS = ConvertSettings


def run(settings: ConvertSettings, place: ResultPlace) -> int:
    """Convert or list, print, write.

    Args:
        settings: What is asked for.
        place: Where the result as JSON goes.

    Raises:
        InputError: Something about the input cannot be used.
    """
    started = time.perf_counter()
    target = None if settings.list else _target(settings.target)
    files = resolve_checkpoint(settings)
    targets = [target, settings.result_file]
    check_results(targets, [settings.checkpoint], files.prefix, place)
    if target is None:
        _list(settings, place, files)
        return 0
    # Torch takes seconds to import, which neither a listing nor a wrong option should cost.
    from torch_model.checkpoint import save_arrays, save_backbone

    conversion = convert_checkpoint(settings, files, settings.backbone)
    whole = settings.backbone is None
    if not whole:
        save_backbone(target, conversion.config, conversion.arrays, conversion.provenance)
    elif settings.naming is None:
        save_arrays(target, conversion.config, conversion.arrays, conversion.provenance)
    else:
        _save_named(target, conversion, get_naming(settings.naming))
    seconds = round(time.perf_counter() - started, 3)
    result = ConversionResult(
        target=str(target),
        naming=UNSET if settings.naming is None else settings.naming,
        backbone=UNSET if whole else conversion.config.name,
        model=conversion.config.name if whole else UNSET,
        config=conversion.config.to_dict() if whole else UNSET,
        provenance=made(Provenance, conversion.provenance),
        ledger=ledger_record(conversion.ledger),
        seconds=seconds,
    )
    _report(settings, place, result, summary_text(conversion, target, seconds, settings.naming))
    return 0


def _save_named(target: Path, conversion: Conversion, naming: Naming) -> None:
    """Write the values under another code base's keys."""
    from torch_model.checkpoint import save_state_dict

    source = str(conversion.provenance["source"])
    save_state_dict(target, to_naming(naming, conversion.config, conversion.arrays, source))


def _list(settings: ConvertSettings, place: ResultPlace, files: CheckpointFiles) -> None:
    """Print what becomes of every variable, also of a file that cannot be converted.

    Raises:
        InputError: It cannot be converted.
    """
    known = hyperparameters_of(settings, files)
    try:
        ledger = account(
            files,
            model=settings.model,
            num_classes=settings.num_classes,
            weights=settings.weights,
            hyperparameters=known,
            backbone=settings.backbone,
        )
    except InputError:
        # Whoever looks for what is wrong with a file has to see what is in it.
        entries = read_index(index_file(files.prefix)).entries
        if settings.json != PRINTED:
            say(plain_listing(entries, output_width(), settings.filter))
        raise
    # An index alone can be listed too, and says nothing about values.
    has_data = any(".data-" in path.name for path in checkpoint_files(files.prefix))
    unusable: InputError | None = None
    if has_data:
        try:
            with Progress("reading", patience=READING_PATIENCE) as progress:
                ledger = examine(files, ledger, progress)
        except InputError as error:
            unusable = error
    if unusable is not None:
        state = f"FINDING: {unusable}"
    elif has_data:
        state = "all values read, every CRC32C verified"
    else:
        state = "the index alone is there: no value was read, so no CRC32C verified"
    verified = has_data and unusable is None
    result = ConversionResult(ledger=ledger_record(ledger), verified=verified)
    _report(
        settings, place, result, f"{listing(ledger, output_width(), settings.filter)}\n  {state}"
    )
    ledger.require_complete(str(files.prefix))
    if unusable is not None:
        raise unusable


def _target(target: Path | None) -> Path:
    """The file to write, checked before any work is done."""
    if target is None:
        raise InputError(
            "TARGET is missing; name the .pth file to write, or give --list.", Cause.OPTION
        )
    if target.suffix != ".pth":
        raise InputError(f"{target} does not end in .pth; name the file to write so.", Cause.OPTION)
    if os.path.isdir(target) or not os.path.isdir(target.parent):
        what = "is a folder" if os.path.isdir(target) else "lies in a folder that does not exist"
        raise InputError(f"{target} {what}; name a file in an existing folder.", Cause.FILE)
    return target


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
    conversion: Conversion, target: Path, seconds: float, naming: str | None = None
) -> str:
    """What a conversion did, in a few lines.

    Args:
        conversion: The conversion.
        target: The file written.
        seconds: Wall time.
        naming: Of the keys in the file; None for this project's own form.
    """
    values = sum(array.size for array in conversion.arrays.values())
    fingerprint = conversion.provenance["checkpoint_fingerprint"][:16]
    lines = [
        *account_lines(conversion.ledger, output_width()),
        f"  {values:,} values, every CRC32C verified; checkpoint fingerprint {fingerprint}",
    ]
    release = conversion.provenance["release"]
    if release is not None:
        certain = release["how"] == BY_CONTENT
        what = "Google's" if certain else "taken for Google's"
        lines.append(f"  {what} {release['name']}, {release['how']}")
    if naming is not None:
        lines.append(_named_text(get_naming(naming), conversion.config))
    size = target.stat().st_size / 1e6
    return "\n".join([*lines, f"wrote {target} ({size:.1f} MB) in {seconds:.1f} s"])


def _named_text(naming: Naming, config: EfficientDetConfig) -> str:
    """Whose keys a file has, and how many of them nothing depends on."""
    keys = list(naming.keys(config))
    unused = sum(key.parameter is None for key in keys)
    never_read = f", which never reads {unused} of them" if unused else ""
    return f"  a state dict with the {len(keys)} keys of {naming.project}{never_read}"
