"""What is run for a model before its page can be made, as command lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import MODELS, OFFICIAL_MODELS, Cause, InputError
from parity.detections.images import image_files

ALL = "all"
"""Stands for every official model."""

STRUCTURE_SIZE = "256x256"
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
class Choice:
    """What all subjects have in common.

    Attributes:
        seeded: Take seeded weights for official names, even where trained ones can be had.
        candidate: Instead of the converted model, as for ``compare.py nodes``.
        image: For the comparison of nodes; None: the built-in one.
        size: HxW of the input; None: the model's own.
        weights: ``ema`` or ``raw``.
        model: Of sources that do not say which they are.
        threads: Within one operation; None: the frameworks' choice.
        closeups: Number of nodes to look closer at.
        images: Folder of images to detect in; None: no detections.
        annotations: What there is to be found in them.
        limit: Only so many of them.
        profile: Variants of the stages around the network.
        pictures: Number of images to draw detections in.
        self_check: Also put faults into the model and see that they are found.
        cache: Folder for downloads.
    """

    seeded: bool = False
    candidate: str | None = None
    image: Path | None = None
    size: str | None = None
    weights: str = "ema"
    model: str | None = None
    threads: int | None = None
    closeups: int = 12
    images: Path | None = None
    annotations: Path | None = None
    limit: int | None = None
    profile: str = "official"
    pictures: int = 3
    self_check: bool = False
    cache: Path | None = None


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: Short name.
        title: What it does.
        command: ``compare.py`` or ``convert.py`` and its arguments.
        result: The file that it writes, within the model's folder.
        others: Patterns of the other files that it writes there.
        obstacle: Why it cannot be made although it was asked for; empty where it can.
    """

    name: str
    title: str
    command: tuple[str, ...]
    result: str
    others: tuple[str, ...] = ()
    obstacle: str = ""


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
        exists = Path(source).exists() or Path(f"{source}.index").exists() or "://" in source
        if not exists and source not in OFFICIAL_MODELS:
            raise InputError(
                f"{source} is neither a checkpoint nor the name of a model; give one of "
                f"{', '.join(OFFICIAL_MODELS)}, {ALL}, or a checkpoint as SOURCE of convert.py.",
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


def _slug(source: str) -> str:
    # What follows a question mark in an address may be secret.
    path = re.split(r"[?#]", source)[0] if "://" in source else source
    name = re.sub(r"(\.index|\.tar\.gz|\.tgz|\.tar)$", "", path.rstrip("/").rpartition("/")[2])
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    return slug or "model"


def seed(subject: Subject, folder: Path) -> Step:
    """Make a checkpoint with seeded weights."""
    command = ("compare.py", "seed", subject.source, str(folder / "seeded"))
    title = "Make a checkpoint with seeded weights"
    return Step("seed", title, command, "seeded/model.index", ("seeded/*",))


def convert(subject: Subject, source: str, folder: Path, choice: Choice) -> Step:
    """Convert the checkpoint."""
    command = ["convert.py", source, str(folder / "model.pth")]
    command += ["--json", str(folder / "conversion.json"), "--weights", choice.weights]
    return Step(
        "convert",
        "Convert the checkpoint to PyTorch",
        tuple(command + _identity(subject, choice)),
        "conversion.json",
        ("model.pth",),
    )


def comparisons(
    subject: Subject, source: str, folder: Path, choice: Choice, *, trained: bool
) -> list[Step]:
    """Everything that follows the conversion.

    Args:
        subject: The model.
        source: Its checkpoint.
        folder: For the results.
        choice: What all models have in common.
        trained: Whether its detections mean anything.
    """
    common = [*_identity(subject, choice), "--weights", choice.weights]
    if choice.threads:
        common += ["--threads", str(choice.threads)]
    size = ["--size", choice.size] if choice.size else []
    candidate = choice.candidate or str(folder / "model.pth")
    nodes = ["compare.py", "nodes", source, *common, "--candidate", candidate]
    exact = [*nodes, "--dtype", "float64", "--size", STRUCTURE_SIZE, "--contributions", "0"]
    exact += ["--json", str(folder / "structure.json")]
    nodes += size + ["--closeups", str(choice.closeups), "--json", str(folder / "nodes.json")]
    if choice.image:
        nodes += ["--image", str(choice.image)]
    steps = [
        Step("nodes", "Compare every node", tuple(nodes), "nodes.json"),
        Step("structure", "Compare every node in float64", tuple(exact), "structure.json"),
    ]
    if choice.self_check:
        check = ["compare.py", "self-check", source, *common]
        check += ["--json", str(folder / "self-check.json")]
        steps.append(
            Step("self-check", "Put faults in and look for them", tuple(check), "self-check.json")
        )
    if choice.images and choice.annotations:
        obstacle = _no_detections(choice, trained)
        detection = [*common, *size, "--profile", choice.profile]
        coco = ["compare.py", "coco", source, *detection, "--stage-swap"]
        coco += ["--images", str(choice.images), "--annotations", str(choice.annotations)]
        coco += ["--out", str(folder / "coco")]
        if choice.limit:
            coco += ["--limit", str(choice.limit)]
        title, others = "Evaluate on COCO images", ("coco/*.json",)
        steps.append(Step("coco", title, tuple(coco), "coco/coco.json", others, obstacle))
        if choice.pictures:
            pictures = image_files(choice.images)[: choice.pictures]
            detect = ["compare.py", "detect", source, *map(str, pictures), *detection]
            detect += ["--out", str(folder / "detect")]
            title, others = "Draw detections", ("detect/*.png",)
            steps.append(
                Step("detect", title, tuple(detect), "detect/detect.json", others, obstacle)
            )
    return steps


def _no_detections(choice: Choice, trained: bool) -> str:
    """Why no detections can be made; empty where they can."""
    if choice.candidate:
        # The detections would be the converted model's, which is another one.
        return "not made for a candidate: detections are the converted model's"
    return "" if trained else "the weights are not trained"


def _identity(subject: Subject, choice: Choice) -> list[str]:
    # D6 and D7 have the same variables; an official name says which it is.
    model = subject.source if subject.official and subject.source in MODELS else choice.model
    options = ["--model", model] if model else []
    return options + (["--cache", str(choice.cache)] if choice.cache else [])
