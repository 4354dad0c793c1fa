"""What ``report`` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import OFFICIAL_MODELS, Cause, InputError
from parity.settings.nodes import EXACT, GRAPH, needs_of_reference
from parity.settings.option import CHECKPOINT, COMPUTING, INPUT, RESULTS, SIDES, STEPS, option
from parity.settings.shared import (
    WEIGHTS,
    DeviceSettings,
    DownloadSettings,
    SizeSettings,
    ThreadSettings,
    hparams_option,
)

ALL = "all"
"""Stands for every official model."""

RUN = ("convert", "nodes", "structure", "self-check", "coco", "detect")
"""What can be run for a model, in order."""

_OPTIONAL_STEPS = RUN[1:]
_MAX_COUNT = 1000


@dataclass(frozen=True, kw_only=True)
class ReportSettings(DownloadSettings, SizeSettings, ThreadSettings, DeviceSettings):
    """Everything for one model or all of them, and pages of it."""

    COMMAND = "report"
    HELP = "run everything for one model or all of them and make pages of it"
    ABOUT = (
        "Converts, compares and evaluates models, each command in a process of its own, and makes "
        "pages to be read in a browser. A run that was interrupted is gone on with by the same "
        "command."
    )
    EXAMPLES = (
        ("report efficientdet-d0/ --out report", "pages for one checkpoint"),
        ("report efficientdet-d0/ --candidate port.py:build --out report", "for your own port"),
        ("report all --out report", "for every official model, downloaded"),
        ("report --from report/results --out again", "the pages again, nothing computed"),
    )

    sources: tuple[str, ...] = option(
        f"{OFFICIAL_MODELS[0]} to {OFFICIAL_MODELS[-1]} or {ALL} of them, another name that models "
        "lists, or a checkpoint as of convert; "
        "NAME=CHECKPOINT gives the page another name",
        default=(),
        group=CHECKPOINT,
        positional=True,
        metavar="MODEL_OR_CHECKPOINT",
        path=True,
    )
    out: Path = option("folder for the pages", group=RESULTS, metavar="DIR")
    from_: Path | None = option(
        "make the pages again from the results of an earlier run, without computing",
        default=None,
        group=RESULTS,
        metavar="DIR",
    )
    results: Path | None = option(
        "for the results the pages are made of; default: results in --out",
        default=None,
        group=RESULTS,
        metavar="DIR",
    )
    no_data: bool = option(
        "leave the results' JSON files out of the pages' folder: smaller, the tables remain",
        default=False,
        group=RESULTS,
    )
    seeded: bool = option(
        "official names: seeded weights, even where the trained ones could be downloaded",
        default=False,
        group=CHECKPOINT,
    )
    weights: str = option(
        "moving averages or the raw values",
        default="ema",
        choices=WEIGHTS,
        group=CHECKPOINT,
    )
    model: str | None = option(
        "of checkpoints that do not say which they are",
        default=None,
        group=CHECKPOINT,
        metavar="NAME",
    )
    hparams: str | None = hparams_option()
    candidate: str | None = option(
        "your own port, whose nodes, detections and AP the pages are of, as of nodes; default: "
        "the converted model",
        default=None,
        metavar="MODEL",
        group=SIDES,
        path=True,
    )
    names: Path | None = option(
        "as of nodes: submodule of the candidate for each node",
        default=None,
        group=SIDES,
        metavar="FILE.json",
    )
    reference: Path | None = option(
        "as of nodes: what to compare with in place of this project's own graph; a trace or a "
        ".meta graph is not used in float64",
        default=None,
        group=SIDES,
        metavar="WHICH",
    )
    image: Path | None = option(
        "for the nodes; default: a generated set", default=None, group=INPUT, metavar="FILE"
    )
    images: Path | None = option("folder of COCO images", default=None, group=INPUT, metavar="DIR")
    annotations: Path | None = option(
        "their annotations", default=None, group=INPUT, metavar="FILE"
    )
    limit: int | None = option(
        "only the first N images by id", default=None, lowest=1, group=INPUT, metavar="N"
    )
    profile: str = option("as of coco", default="official", group=COMPUTING, metavar="NAME")
    closeups: int = option(
        "as of nodes",
        default=12,
        lowest=0,
        highest=_MAX_COUNT,
        group=STEPS,
        metavar="N",
    )
    pictures: int = option(
        "of how many images to show both sides' detections",
        default=3,
        lowest=0,
        highest=_MAX_COUNT,
        group=STEPS,
        metavar="N",
    )
    self_check: bool = option(
        "also put faults into the model and see that each is found", default=False, group=STEPS
    )
    stage_swap: bool = option(
        "also what each stage of detection is worth in AP; some ten times the work of the rest",
        default=False,
        group=STEPS,
    )
    skip: tuple[str, ...] = option(
        f"leave a step out: {', '.join(_OPTIONAL_STEPS)}; can be given several times",
        default=(),
        choices=_OPTIONAL_STEPS,
        group=STEPS,
        metavar="STEP",
    )

    @property
    def structure_reference(self) -> Path | None:
        """The reference of the comparison in float64, for which traces and graphs are too fixed."""
        reference = self.reference
        anything = reference is not None and (reference == EXACT or reference.suffix == ".pth")
        return reference if anything else None

    def _number(self) -> str:
        """Of how many models the pages are, in words."""
        if self.from_ is not None:
            return "an earlier run"
        return "all models" if ALL in self.sources else f"{len(self.sources)} models"

    def needs(self) -> Sequence[str]:
        """What makes the pages, and what every step that is asked for needs."""
        if self.from_ is not None:
            return ("reports",)
        found = ["reports", *needs_of_reference(self.reference)]
        if "structure" not in self.skip:
            found += needs_of_reference(self.structure_reference)
        if self.images:
            found += [] if "coco" in self.skip else ["tensorflow", "coco"]
            found += [] if "detect" in self.skip else ["tensorflow", "images"]
        return list(dict.fromkeys(found))

    def check(self) -> None:
        """Refuse settings that do not go together, and files that are not there.

        Raises:
            InputError: Says which.
        """
        if self.from_ is not None:
            if self.sources:
                raise InputError("--from computes nothing; leave the models out.", Cause.OPTION)
            if not self.from_.is_dir():
                raise InputError(
                    f"{self.from_} is no folder; give the results of an earlier run.", Cause.FILE
                )
        elif not self.sources:
            raise InputError("No model is given; name one, a checkpoint, or all.", Cause.OPTION)
        if self.sha256 is not None and (len(self.sources) != 1 or ALL in self.sources):
            raise InputError(
                f"--sha256 is of one archive, but the pages are of {self._number()}; name one "
                f"model or leave it out.",
                Cause.OPTION,
            )
        if self.sha256 is not None and self.seeded:
            raise InputError(
                "--seeded makes the weights here, and --sha256 is of an archive that is not used "
                "then; leave one of the two out.",
                Cause.OPTION,
            )
        if bool(self.images) != bool(self.annotations):
            missing, there = ("annotations", "images") if self.images else ("images", "annotations")
            raise InputError(
                f"--{there} is of no use without --{missing}; give both or neither.", Cause.OPTION
            )
        if self.stage_swap and not self.images:
            raise InputError(
                "--stage-swap evaluates COCO images; give --images and --annotations.",
                Cause.OPTION,
            )
        if self.stage_swap and self.candidate is not None:
            raise InputError(
                "--stage-swap exchanges stages of the converted model's own pipeline, of which a "
                "candidate has only the network; leave --stage-swap or --candidate out.",
                Cause.OPTION,
            )
        if self.images and not self.images.is_dir():
            raise InputError(
                f"{self.images} is no folder; give the folder of the images.", Cause.FILE
            )
        reference = None if self.reference in (EXACT, GRAPH) else self.reference
        for path in (self.annotations, self.image, self.names, reference):
            if path and not path.is_file():
                raise InputError(f"{path} is no file; give one that exists.", Cause.FILE)
