"""``record``: the reference's tensors to a file."""

from __future__ import annotations

import textwrap
from functools import partial

from converter.progress import Progress
from parity.commands.asking.inputs import read_input
from parity.commands.asking.options import check_results, resolve_checkpoint
from parity.commands.comparing.opened import Opened
from parity.process import environment
from parity.process.console import output_width, say
from parity.results.place import ResultPlace
from parity.results.records.record import plain
from parity.settings.record import RecordSettings


def run(settings: RecordSettings, place: ResultPlace) -> int:
    """Record, and say what was written.

    Args:
        settings: What is asked for.
        place: Where a result would go.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.traces.header import TraceHeader
    from parity.traces.writer import summary, trace_nodes, write_trace

    files = resolve_checkpoint(settings)
    inputs = [settings.checkpoint, settings.image]
    check_results([settings.trace], inputs, files.prefix, place)
    with Opened(settings, files) as opened:
        images, described = read_input(settings, opened.config)
        reference = opened.reference(images.shape)
        header = TraceHeader(
            config=opened.config,
            checkpoint=plain(opened.described),
            input=described,
            dtype=settings.dtype,
            environment=environment.describe(settings.threads) | {"device": "cpu"},
            outputs=tuple(reference.outputs),
            globs=settings.nodes,
            nodes=trace_nodes(reference, settings.nodes),
        )
        say(textwrap.fill(summary(header), output_width(), subsequent_indent="  "))
        told = f"hyperparameters {opened.described.told}"
        say(textwrap.fill(told, output_width(), subsequent_indent="  "))
        with Progress("recording", unit="nodes") as progress:
            write_trace(
                settings.trace,
                header,
                images,
                partial(reference.compute, images),
                compress=settings.compress,
                progress=progress,
            )
    size = settings.trace.stat().st_size
    say(f"wrote {settings.trace} ({size / 1e9:.2f} GB)")
    return 0
