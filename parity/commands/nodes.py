"""``nodes``: every node's tensor."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from parity.commands.asking.options import check_results, resolve_checkpoint
from parity.commands.comparing.candidates import check_candidate
from parity.commands.comparing.nodes import compare
from parity.commands.comparing.opened import Opened
from parity.gradients.text import gradients_text
from parity.process.console import output_width, say
from parity.process.files import write_text
from parity.reproduction.files import check_folder, files_in
from parity.results.junit import junit
from parity.results.place import ResultPlace
from parity.results.records.record import write
from parity.results.text.nodes import nodes_text
from parity.settings.nodes import NodesSettings
from parity.settings.option import words
from parity.sides.naming import split_candidate


def run(settings: NodesSettings, place: ResultPlace) -> int:
    """Compare, print, write.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Raises:
        InputError: Something about the input cannot be used.
    """
    candidate = split_candidate(settings.candidate).file if settings.candidate else None
    check_candidate(settings.candidate)
    files = resolve_checkpoint(settings)
    inputs: list[Path | str | None] = [settings.checkpoint, settings.names, settings.reference]
    inputs += [*settings.image, candidate]
    targets = [settings.json, settings.junit, settings.write_names]
    written = files_in(settings.reproduce) if settings.reproduce else ()
    check_results(targets, [*inputs, *written], files.prefix, place)
    if settings.reproduce:
        check_folder(settings.reproduce, [Path(path) for path in inputs if path])
    with Opened(settings, files, reference=settings.reference, device=settings.device) as opened:
        found = compare(opened, settings)
    command = shlex.join(["efficientdet-parity", *words(settings)])
    found = replace(found, result=structs.replace(found.result, command=command))
    width = output_width()
    say(
        nodes_text(
            found.result,
            verbose=settings.verbose,
            width=width,
            paths=found.paths,
            further=gradients_text(found.gradients, width) if found.gradients else "",
        )
    )
    place.write(found.result)
    if settings.junit:
        write_text(settings.junit, junit(found.result))
    if settings.write_names:
        write(settings.write_names, found.names)
    return found.result.outcome.exit_code
