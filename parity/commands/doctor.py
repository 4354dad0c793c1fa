"""``doctor``: what this machine has, and what is missing."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from converter.fetch.sources import default_cache
from converter.progress import Progress
from efficientdet_spec import (
    EXTRAS,
    install_command,
    installed_version,
    missing_modules,
    packages_of,
)
from parity.process import machine
from parity.process.console import say
from parity.process.files import check_writable
from parity.results.place import ResultPlace
from parity.results.records.doctor import (
    CommandState,
    DoctorResult,
    ExtraState,
    FoundCheckpoint,
    FrameworkState,
)
from parity.settings.coco import CocoSettings
from parity.settings.convert import ConvertSettings
from parity.settings.detect import DetectSettings
from parity.settings.doctor import DoctorSettings
from parity.settings.nodes import NodesSettings
from parity.settings.option import Settings
from parity.settings.record import RecordSettings
from parity.settings.report import ReportSettings
from parity.settings.self_check import SelfCheckSettings

_ANY = Path("any")

_BARE: tuple[Settings, ...] = (
    ConvertSettings(checkpoint="any"),
    NodesSettings(checkpoint="any"),
    RecordSettings(checkpoint="any", trace=_ANY),
    CocoSettings(checkpoint="any", images=_ANY, annotations=_ANY, out=_ANY),
    DetectSettings(checkpoint="any", images=(_ANY,), out=_ANY),
    ReportSettings(sources=("any",), out=_ANY),
    SelfCheckSettings(checkpoint="any"),
)
"""Each command with nothing but what it must be given."""

_FRAMEWORKS = ("torch", "tensorflow")


def run(settings: DoctorSettings, place: ResultPlace) -> int:
    """Look, print, write.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Returns:
        0 where everything that is installed works; 2 where something does not.

    Raises:
        InputError: The result cannot be written.
    """
    if settings.json:
        with place.checking():
            check_writable(settings.json)
    found = examine(settings.cache or default_cache())
    say("\n".join(_lines(found)))
    place.write(found)
    return 0 if found.healthy else 2


def examine(cache: Path) -> DoctorResult:
    """What this machine has.

    Args:
        cache: The folder of downloads.
    """
    frameworks = []
    with Progress("asking the frameworks", unit="frameworks") as progress:
        for number, name in enumerate(_FRAMEWORKS, 1):
            frameworks.append(_framework(name))
            progress(number, len(_FRAMEWORKS))
    total, available = machine.memory()
    return DoctorResult(
        healthy=all(item.works or not item.installed for item in frameworks),
        project=installed_version("efficientdet-parity") or "not installed, run from its folder",
        python=f"{platform.python_version()} at {sys.executable}",
        platform=platform.platform(),
        cpus=machine.cpus(),
        memory_bytes=total,
        available_bytes=available,
        frameworks=frameworks,
        extras=[_extra(name) for name in EXTRAS],
        commands=[
            CommandState(
                name=item.COMMAND,
                missing=[extra for extra in item.needs() if missing_modules(extra)],
            )
            for item in _BARE
        ],
        settings=machine.settings(),
        cache=str(cache),
        cache_free_bytes=machine.room(cache),
        checkpoints=list(_checkpoints(cache)),
    )


def _framework(name: str) -> FrameworkState:
    if name in EXTRAS and missing_modules(name):
        return FrameworkState(name=name, installed=False, works=False, facts={}, message="")
    probed = machine.probe(name)
    return FrameworkState(
        name=name,
        installed=True,
        works=probed.works,
        facts=probed.facts,
        message=probed.message,
    )


def _extra(name: str) -> ExtraState:
    return ExtraState(
        name=name,
        versions={package: installed_version(package) for package in packages_of(name)},
        install=install_command(name) if missing_modules(name) else None,
    )


def _checkpoints(cache: Path) -> Iterator[FoundCheckpoint]:
    """The archives that have been downloaded, or are being."""
    try:
        places = sorted(path for path in (cache / "downloads").iterdir() if path.is_file())
    except OSError:
        return
    for path in places:
        # Locks, and notes on what is not complete.
        if path.suffix in (".lock", ".json"):
            continue
        # In front stands a digest of the address.
        name = path.name.partition("-")[2] or path.name
        complete = path.suffix != ".part"
        yield FoundCheckpoint(
            name=name.removesuffix(".part"), size=path.stat().st_size, complete=complete
        )


def _lines(found: DoctorResult) -> Iterator[str]:
    yield f"efficientdet-parity {found.project}"
    yield f"  Python    {found.python}"
    yield f"  system    {found.platform}"
    yield f"  computes  {found.cpus} processors{_memory(found)}"
    for name, value in found.settings.items():
        yield f"  set       {name}={value}"
    yield ""
    yield "Frameworks"
    for item in found.frameworks:
        yield f"  {item.name:<10}  {_state(item)}"
    yield ""
    yield "Optional parts"
    for extra in found.extras:
        yield f"  {extra.name:<10}  {_versions(extra.versions)}"
        if extra.install:
            yield f"              to install it: {extra.install}"
    yield ""
    yield "Commands"
    for command in found.commands:
        needs = f"needs {', '.join(command.missing)}" if command.missing else "ready"
        yield f"  {command.name:<10}  {needs}"
    yield ""
    room = "" if found.cache_free_bytes is None else f", {found.cache_free_bytes / 1e9:.1f} GB free"
    yield f"Downloads in {found.cache}{room}"
    for archive in found.checkpoints:
        state = "" if archive.complete else ", not complete: the next use goes on with it"
        yield f"  {archive.name}  {archive.size / 1e6:.1f} MB{state}"
    if not found.checkpoints:
        yield "  none yet; an official name such as efficientdet-d0 is downloaded when it is used"
    yield ""
    broken = [item.name for item in found.frameworks if item.installed and not item.works]
    if broken:
        yield f"{' and '.join(broken)} cannot be used: install it again."
    else:
        yield "Everything that is installed works."


def _memory(found: DoctorResult) -> str:
    if found.memory_bytes is None or found.available_bytes is None:
        return ""
    return (
        f", {found.memory_bytes / 1e9:.1f} GB of memory, {found.available_bytes / 1e9:.1f} GB "
        f"of it free"
    )


def _state(item: FrameworkState) -> str:
    if not item.installed:
        return "not installed"
    if not item.works:
        return f"DOES NOT WORK: {item.message}"
    facts = item.facts
    threads = f", {facts['threads']} threads" if "threads" in facts else ""
    return f"{facts['version']}{threads}, on {', '.join(facts['devices'])}"


def _versions(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'is missing'}" for name, version in versions.items())
