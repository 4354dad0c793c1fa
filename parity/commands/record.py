"""``compare.py record``: the reference's tensors to a file."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from converter.progress import Progress
from parity.commands.asking.inputs import read_input
from parity.commands.asking.options import (
    add_input,
    check_numbers,
    check_results,
    convert_checkpoint,
    describe_checkpoint,
    resolve_checkpoint,
)
from parity.commands.references import open_reference
from parity.process import environment
from parity.results.records.record import plain


def add_parser(commands: Any) -> None:
    """Make the command known."""
    record = commands.add_parser(
        "record", help="write the reference's tensors to a file, to be compared elsewhere"
    )
    record.set_defaults(run=run)
    add_input(record)
    record.add_argument("trace", metavar="TRACE", type=Path, help="HDF5 file to write")
    record.add_argument(
        "--nodes",
        action="append",
        default=[],
        metavar="GLOB",
        help="record only nodes like this; can be given several times",
    )
    record.add_argument("--compress", action="store_true", help="smaller and slower, as exact")


def run(arguments: argparse.Namespace) -> int:
    """``compare.py record``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.traces.header import TraceHeader
    from parity.traces.writer import summary, trace_nodes, write_trace

    check_numbers(arguments)
    files = resolve_checkpoint(arguments)
    check_results(arguments, files.prefix)
    conversion = convert_checkpoint(arguments, files)
    config = conversion.config
    images, described = read_input(arguments, conversion)
    environment.prepare()
    with open_reference(arguments, conversion, files.prefix, images.shape) as reference:
        header = TraceHeader(
            config=config,
            checkpoint=plain(describe_checkpoint(arguments, conversion)),
            input=described,
            dtype=arguments.dtype,
            environment=environment.describe(arguments.threads) | {"device": "cpu"},
            outputs=tuple(reference.outputs),
            globs=tuple(arguments.nodes),
            nodes=trace_nodes(reference, arguments.nodes),
        )
        print(summary(header))
        with Progress("recording", unit="nodes") as progress:
            write_trace(
                arguments.trace,
                header,
                images,
                partial(reference.compute, images),
                compress=arguments.compress,
                progress=progress,
            )
    size = arguments.trace.stat().st_size
    print(f"wrote {arguments.trace} ({size / 1e9:.2f} GB)")
    return 0
