"""Convert a TensorFlow 1 EfficientDet checkpoint to a PyTorch .pth file."""

from __future__ import annotations

from parity.process import interruption

if __name__ == "__main__":
    # The imports that follow take long enough to be interrupted.
    interruption.end_at_once("convert.py")

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from converter.bundle import checkpoint_files
from converter.conversion import Conversion, account, convert, examine
from converter.ledger import WEIGHTS, Ledger
from converter.progress import READING_PATIENCE, Progress
from converter.sources import CheckpointFiles, default_cache, resolve
from efficientdet_spec import MODELS, Cause, InputError
from parity.process import reading
from parity.process.console import EXIT_CODES, add_debug, guarded
from parity.process.files import check_writable
from parity.results.place import ResultPlace
from parity.results.records.conversion import ConversionResult, LedgerResult, Provenance, Variable
from parity.results.records.record import made, plain


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="convert.py",
        description=__doc__,
        epilog=EXIT_CODES,
    )
    result.add_argument(
        "source",
        metavar="SOURCE",
        help="checkpoint folder, prefix, .index, .tar.gz/.tgz, http(s) address of one, or an "
        "official name such as efficientdet-d4, which is downloaded",
    )
    result.add_argument("target", metavar="TARGET", nargs="?", help="file to write, ending in .pth")
    result.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="ema",
        help="moving averages where the file has them (default; the published AP is theirs), or "
        "the raw values",
    )
    result.add_argument("--model", help=f"default: recognised from the file; {', '.join(MODELS)}")
    result.add_argument("--num-classes", type=int, help="refuse a file with another class count")
    result.add_argument(
        "--list", action="store_true", help="print what becomes of every variable; needs no TARGET"
    )
    result.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="write the result as JSON to FILE, or print it in place of the text",
    )
    result.add_argument("--cache", type=Path, help="folder for downloads (EFFICIENTDET_CACHE)")
    add_debug(result)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code, as :data:`parity.process.console.EXIT_CODES` lists them.
    """
    arguments = parser().parse_args(argv)
    json_file = None if arguments.json in (None, "-") else Path(arguments.json)
    place = ResultPlace("convert.py", json_file)
    return guarded(
        "convert.py",
        lambda: run(arguments, place),
        debug=arguments.debug,
        failed=place.fail,
    )


def run(arguments: argparse.Namespace, place: ResultPlace) -> int:
    """Do what the arguments say.

    Args:
        arguments: The command line.
        place: Where the result as JSON goes.

    Raises:
        InputError: Something about the input cannot be used.
    """
    started = time.perf_counter()
    target = None if arguments.list else _target(arguments.target)
    json_file = None if arguments.json in (None, "-") else Path(arguments.json)
    with Progress("downloading") as progress:
        files = resolve(arguments.source, arguments.cache or default_cache(), progress)
    inputs = [*checkpoint_files(files.prefix), Path(arguments.source)]
    try:
        if target:
            check_writable(target, inputs)
        if json_file:
            check_writable(json_file, [*inputs, *([target] if target else [])])
    except InputError:
        place.refuse()
        raise
    choice = {
        "model": arguments.model,
        "num_classes": arguments.num_classes,
        "weights": arguments.weights,
    }
    if target is None:
        _list(arguments, place, files, account(files, **choice))
        return 0
    # Torch takes seconds to import, which neither a listing nor a wrong option should cost.
    from torch_model.checkpoint import save_arrays

    with Progress("reading", patience=READING_PATIENCE) as progress:
        conversion = convert(files, **choice, progress=progress)
    save_arrays(target, conversion.config, conversion.arrays, conversion.provenance)
    seconds = round(time.perf_counter() - started, 3)
    result = ConversionResult(
        target=str(target),
        model=conversion.config.name,
        config=conversion.config.to_dict(),
        provenance=made(Provenance, conversion.provenance),
        ledger=ledger_record(conversion.ledger),
        seconds=seconds,
    )
    _report(arguments, place, result, summary_text(conversion, target, seconds))
    return 0


def _list(
    arguments: argparse.Namespace, place: ResultPlace, files: CheckpointFiles, ledger: Ledger
) -> None:
    """Print what becomes of every variable, also of a file that cannot be converted.

    Raises:
        InputError: It cannot be converted.
    """
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
    _report(arguments, place, result, f"{list_text(ledger)}\n  {state}")
    ledger.require_complete(str(files.prefix))
    if unusable is not None:
        raise unusable


def _target(text: str | None) -> Path:
    """The file to write, checked before any work is done."""
    if not text:
        raise InputError(
            "TARGET is missing; name the .pth file to write, or give --list.", Cause.OPTION
        )
    target = Path(text)
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
        num_classes=ledger.config.num_classes,
        weights=ledger.weights,
        counts=ledger.counts(),
        findings=ledger.findings,
        notes=ledger.notes,
        variables=[made(Variable, row) for row in ledger.rows],
    )


def _report(
    arguments: argparse.Namespace, place: ResultPlace, result: ConversionResult, text: str
) -> None:
    if arguments.json == "-":
        print(json.dumps(plain(result), indent=2))
        return
    place.write(result)
    print(text)


def list_text(ledger: Ledger) -> str:
    """The ledger as a table, one line for each variable."""
    rows = [("variable", "shape", "use", "parameter", "why")]
    rows += [
        (row.variable, "x".join(map(str, row.shape)) or "scalar", row.use, row.parameter, why)
        for row in ledger.rows
        for why in [row.reason if not row.layout else f"{row.reason}; {row.layout}"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_account_lines(ledger)])


def _account_lines(ledger: Ledger) -> list[str]:
    counts = ledger.counts()
    used = [f"{counts.pop(use)} {use.upper()}" for use in WEIGHTS if use in counts]
    left_out = [f"{count} {reason}" for reason, count in counts.items()]
    return [
        f"{ledger.config.name}, {ledger.config.num_classes} classes",
        f"  {len(ledger.rows)} variables: {' and '.join(used) or 'none'} used for "
        f"{len(ledger.sources)} parameters",
        *([f"  excluded: {', '.join(left_out)}"] if left_out else []),
        *(f"  note: {note}" for note in ledger.notes),
        *(f"  FINDING: {finding}" for finding in ledger.findings),
    ]


def summary_text(conversion: Conversion, target: Path, seconds: float) -> str:
    """What a conversion did, in a few lines."""
    values = sum(array.size for array in conversion.arrays.values())
    fingerprint = conversion.provenance["checkpoint_fingerprint"][:16]
    return "\n".join(
        [
            *_account_lines(conversion.ledger),
            f"  {values:,} values, every CRC32C verified; checkpoint fingerprint {fingerprint}",
            f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB) in {seconds:.1f} s",
        ]
    )


if __name__ == "__main__":
    reading.start()
    # A conversion leaves no cycles to collect, and each collection would walk all of PyTorch:
    # off while it runs, and nothing left to walk at exit.
    gc.disable()
    exit_code = main()
    gc.freeze()
    sys.exit(exit_code)
