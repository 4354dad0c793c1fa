"""What is run for a model before its page can be made: the settings of each command."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientdet_spec import OFFICIAL_MODELS, Cause, InputError, did_you_mean
from efficientdet_spec.releases import RELEASES
from parity.detections.images import image_files
from parity.settings.coco import CocoSettings
from parity.settings.convert import ConvertSettings
from parity.settings.detect import DetectSettings
from parity.settings.nodes import NodesSettings
from parity.settings.option import Settings
from parity.settings.programs import program_words
from parity.settings.report import ALL, ReportSettings
from parity.settings.seed import SeedSettings
from parity.settings.self_check import SelfCheckSettings
from parity.settings.shared import DetectionSettings
from parity.sides.naming import split_candidate

STRUCTURE_SIZE = (256, 256)
"""Input of the comparison in float64: structure does not depend on the size, time does."""

SLUG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")
"""What a model's page and folder may be called."""

RESERVED = frozenset({"assets", "index", "junit", "report", "results"})
"""Names beside the pages that are not a model's, in any case."""


@dataclass(frozen=True)
class Subject:
    """A model to report on.

    Attributes:
        slug: Name of its page and folder.
        source: A checkpoint, or the official name of a model.
        official: Whether ``source`` is an official name and no file.
    """

    slug: str
    source: str
    official: bool


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: Short name.
        title: What it does.
        settings: What it is told.
        result: The file that it writes, within the model's folder.
        others: Patterns of the other files that it writes there.
        obstacle: Why it cannot be made although it was asked for; empty where it can.
    """

    name: str
    title: str
    settings: Settings
    result: str
    others: tuple[str, ...] = ()
    obstacle: str = ""

    @property
    def runs_code(self) -> bool:
        """Whether it runs code of others, of which nobody knows all that it depends on."""
        settings = self.settings
        if not isinstance(settings, NodesSettings | DetectionSettings):
            return False
        return settings.candidate is not None and split_candidate(settings.candidate).runs_code

    @property
    def command(self) -> tuple[str, ...]:
        """``compare.py`` or ``convert.py`` and its arguments."""
        return program_words(self.settings)


def subjects(sources: Sequence[str]) -> list[Subject]:
    """The models that a command line names.

    Args:
        sources: Each ``all``, an official name, a checkpoint, or NAME=CHECKPOINT.

    Raises:
        InputError: There is no such model or file, or a name cannot be one of a file.
    """
    found: list[Subject] = []
    for text in sources:
        if text == ALL:
            found += [Subject(name, name, True) for name in OFFICIAL_MODELS]
            continue
        name, separator, source = text.partition("=")
        if not separator or "://" in name or Path(text).exists():
            name, source = "", text
        if source.startswith("~"):
            # Behind an equals sign not every shell says what it stands for.
            source = os.path.expanduser(source)
        exists = (
            source != ""
            and Path(source).exists()
            or Path(f"{source}.index").exists()
            or "://" in source
        )
        if not exists and source not in RELEASES:
            raise InputError(
                f"{source} is neither a checkpoint nor the name of a model"
                f"{did_you_mean(source, RELEASES)}; give one of "
                f"{', '.join(OFFICIAL_MODELS)}, another that efficientdet-parity models lists, "
                f"{ALL}, or a checkpoint as SOURCE of convert.",
                Cause.OPTION,
            )
        slug = name or _slug(source)
        if not SLUG.fullmatch(slug) or slug.lower() in RESERVED:
            raise InputError(
                f"{slug!r:.100} cannot name a page; give a name of letters, digits, dots, dashes "
                f"and underscores, as in NAME={source}, and none of {', '.join(sorted(RESERVED))}.",
                Cause.OPTION,
            )
        found.append(Subject(slug, source, official=not exists))
    names: dict[str, str] = {}
    for subject in found:
        if subject.slug in names:
            raise InputError(
                f"{names[subject.slug]} and {subject.source} would both be called "
                f"{subject.slug}; give one another name, as in NAME={subject.source}.",
                Cause.OPTION,
            )
        names[subject.slug] = subject.source
    return found


def _is_there(source: str) -> bool:
    return Path(source).exists() or Path(f"{source}.index").exists()


def _slug(source: str) -> str:
    # What follows a question mark in an address may be secret.
    path = re.split(r"[?#]", source)[0] if "://" in source else source
    name = re.sub(r"(\.index|\.tar\.gz|\.tgz|\.tar)$", "", path.rstrip("/").rpartition("/")[2])
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    return slug or "model"


def seed(subject: Subject, folder: Path, choice: ReportSettings) -> Step:
    """Make a checkpoint with seeded weights.

    Args:
        subject: The model.
        folder: For the results.
        choice: What all models have in common.
    """
    settings = SeedSettings(model=subject.source, folder=folder / "seeded", hparams=choice.hparams)
    title = "Make a checkpoint with seeded weights"
    return Step("seed", title, settings, "seeded/checkpoint", ("seeded/*",))


def convert(subject: Subject, source: str, folder: Path, choice: ReportSettings) -> Step:
    """Convert the checkpoint.

    Args:
        subject: The model.
        source: Its checkpoint.
        folder: For the results.
        choice: What all models have in common.
    """
    settings = ConvertSettings(
        checkpoint=source,
        target=folder / "model.pth",
        json=str(folder / "conversion.json"),
        **_identity(subject, source, choice),
    )
    title = "Convert the checkpoint to PyTorch"
    return Step("convert", title, settings, "conversion.json", ("model.pth",))


def comparisons(
    subject: Subject, source: str, folder: Path, choice: ReportSettings, *, trained: bool
) -> list[Step]:
    """Everything that follows the conversion, but what is to be skipped.

    Args:
        subject: The model.
        source: Its checkpoint.
        folder: For the results.
        choice: What all models have in common.
        trained: Whether its detections mean anything.
    """
    common = {
        "checkpoint": source,
        "threads": choice.threads,
        **_identity(subject, source, choice),
    }
    steps = _of_nodes(folder, choice, common)
    if choice.self_check:
        check = SelfCheckSettings(**common, json=folder / "self-check.json")
        title = "Put faults in and look for them"
        steps.append(Step("self-check", title, check, "self-check.json"))
    if choice.images and choice.annotations:
        obstacle = "" if trained else "the weights are not trained"
        steps += _of_detections(folder, choice, common, obstacle)
    return [step for step in steps if step.name not in choice.skip]


def _of_nodes(folder: Path, choice: ReportSettings, common: dict[str, Any]) -> list[Step]:
    sides = {
        **common,
        "candidate": choice.candidate or str(folder / "model.pth"),
        "names": choice.names,
        "device": choice.device,
    }
    nodes = NodesSettings(
        **sides,
        reference=choice.reference,
        size=choice.size,
        image=(choice.image,) if choice.image else (),
        closeups=choice.closeups,
        json=folder / "nodes.json",
    )
    exact = NodesSettings(
        **sides,
        reference=choice.structure_reference,
        size=STRUCTURE_SIZE,
        dtype="float64",
        contributions=0,
        json=folder / "structure.json",
    )
    return [
        Step("nodes", "Compare every node", nodes, "nodes.json"),
        Step("structure", "Compare every node in float64", exact, "structure.json"),
    ]


def _of_detections(
    folder: Path, choice: ReportSettings, common: dict[str, Any], obstacle: str
) -> list[Step]:
    assert choice.images is not None and choice.annotations is not None
    common = {
        **common,
        "candidate": choice.candidate,
        "names": choice.names if choice.candidate else None,
        "size": choice.size,
        "profile": choice.profile,
        "device": choice.device,
    }
    coco = CocoSettings(
        **common,
        images=choice.images,
        annotations=choice.annotations,
        limit=choice.limit,
        stage_swap=choice.stage_swap,
        out=folder / "coco",
    )
    title, others = "Evaluate on COCO images", ("coco/*.json",)
    steps = [Step("coco", title, coco, "coco/coco.json", others, obstacle)]
    if choice.pictures:
        pictures = image_files(choice.images)[: choice.pictures]
        detect = DetectSettings(**common, images=tuple(pictures), out=folder / "detect")
        title, others = "Draw detections", ("detect/*.png",)
        steps.append(Step("detect", title, detect, "detect/detect.json", others, obstacle))
    return steps


def _identity(subject: Subject, source: str, choice: ReportSettings) -> dict[str, Any]:
    """Which checkpoint it is, beyond its file."""
    return {
        # D6 and D7 have the same variables; an official name says which it is.
        "model": subject.source if subject.official else choice.model,
        "weights": choice.weights,
        "hparams": choice.hparams,
        "cache": choice.cache,
        # Of the archive, which seeded weights are not from.
        "sha256": choice.sha256 if source == subject.source else None,
        "offline": choice.offline,
    }
