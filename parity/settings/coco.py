"""What ``coco`` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import Cause, InputError
from parity.settings.option import COMPUTING, INPUT, RESULTS, SIDES, option
from parity.settings.shared import DetectionSettings

FRAMEWORKS = ("tensorflow", "torch")
"""Those whose detections are compared; the second is judged by the first."""

CANDIDATE = "candidate"
"""The side that takes the second one's place where a candidate is given."""

_MAX_IMAGES = 10**9
_MAX_WORKERS = 1024


def image_ids(text: str) -> tuple[int, ...]:
    """Numbers of images from a list such as ``139,285``.

    Raises:
        InputError: It is none.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--image-ids {text!r:.80} is no list of numbers; write it as in 139,285.",
            Cause.OPTION,
        ) from None


def _listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


@dataclass(frozen=True, kw_only=True)
class CocoSettings(DetectionSettings):
    """An evaluation on COCO images."""

    COMMAND = "coco"
    RESULT = "out"
    RESULT_NAME = "coco.json"
    HELP = "compare COCO metrics and every detection"
    ABOUT = (
        "Detects with TensorFlow's network and with the converted model, or with a port of yours, "
        "evaluates COCO's twelve metrics for each, and matches every detection of one with that of "
        "the other. A run that was interrupted is gone on with by the same command."
    )
    EXAMPLES = (
        (
            "coco efficientdet-d0/ --images val2017 --annotations val.json --out coco --limit 100",
            "the first hundred images",
        ),
        (
            "coco d0/ --candidate port.py:build --images val2017 --annotations val.json --out coco",
            "the AP of a port of your own",
        ),
    )

    detections: str | None = option(
        "what your own program detects, judged in the place of the converted model: a JSON file of "
        "COCO results, or FILE.py:FUNCTION, where detect(paths) returns for each path boxes "
        "[x1, y1, x2, y2] in pixels of the image, scores and category ids; known mistakes that "
        "make the faithful boxes equal to these are named (docs/pipelines.md)",
        default=None,
        group=SIDES,
        metavar="FILE",
        path=True,
    )
    no_explanation: bool = option(
        "with --detections, do not look for the mistakes that explain them",
        default=False,
        group=SIDES,
    )
    images: Path = option("folder of the images", group=INPUT, metavar="DIR")
    annotations: Path = option(
        "COCO annotations, such as instances_val2017.json", group=INPUT, metavar="FILE"
    )
    limit: int | None = option(
        "only the first N images by id",
        default=None,
        lowest=1,
        highest=_MAX_IMAGES,
        group=INPUT,
        metavar="N",
    )
    image_ids: tuple[int, ...] | None = option(
        "only these images",
        default=None,
        group=INPUT,
        metavar="ID,ID,...",
        read=image_ids,
        written=_listed,
    )
    framework: str = option(
        "which side to evaluate: tensorflow, torch (the converted model), or, with --candidate, "
        "candidate",
        default="both",
        choices=(*FRAMEWORKS, CANDIDATE, "both"),
        group=COMPUTING,
    )
    workers: int | None = option(
        "compute in N processes of this machine, which share the processors; default: in this "
        "process alone",
        default=None,
        lowest=1,
        highest=_MAX_WORKERS,
        group=COMPUTING,
        metavar="N",
    )
    scheduler: str | None = option(
        "compute on the Dask cluster of this scheduler, such as tls://host:8786, with --tls-ca, "
        "--tls-cert and --tls-key; see docs/cluster.md",
        default=None,
        group=COMPUTING,
        metavar="ADDRESS",
    )
    tls_ca: Path | None = option(
        "with --scheduler, who signs the certificates of the cluster's members; whoever holds such "
        "a certificate can run code as you",
        default=None,
        group=COMPUTING,
        metavar="FILE",
    )
    tls_cert: Path | None = option(
        "with --scheduler, the certificate of this command",
        default=None,
        group=COMPUTING,
        metavar="FILE",
    )
    tls_key: Path | None = option(
        "with --scheduler, the key of --tls-cert, without a passphrase",
        default=None,
        group=COMPUTING,
        metavar="FILE",
    )
    insecure: bool = option(
        "with --scheduler, go on without certificates: whoever reaches a port of the cluster, or "
        "stands in between, can run code as you",
        default=False,
        group=COMPUTING,
    )
    stage_swap: bool = option(
        "also what each stage is worth: the metrics of PyTorch's pipeline with one stage at a time "
        "taken from TensorFlow, or as ports get it wrong; some ten times the work",
        default=False,
        group=RESULTS,
    )
    submission: bool = option(
        "also write detections rounded for COCO's evaluation server; the annotations may then be "
        "those of test images, without boxes",
        default=False,
        group=RESULTS,
    )

    def needs(self) -> Sequence[str]:
        """What computes, what evaluates, and a cluster where one is asked for."""
        found = ["tensorflow"] if self.framework in ("tensorflow", "both") else []
        found += [] if self.submission else ["coco"]
        found += ["images"] if self.stage_swap or self.explains else []
        return [*found, "cluster"] if self.scheduler is not None else found

    @property
    def explains(self) -> bool:
        """Whether mistakes are looked for that explain another program's detections."""
        return self.detections is not None and not self.no_explanation

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            InputError: Says which.
        """
        super().check()
        if self.candidate is not None and self.detections is not None:
            raise InputError(
                "--candidate and --detections are both given; the first is a network for the "
                "stages of --profile, the second a whole program's detections: give one of them.",
                Cause.OPTION,
            )
        if self.candidate is not None or self.detections is not None:
            self.sides(candidate=True)
        if self.workers is not None and self.scheduler is not None:
            raise InputError(
                "--workers and --scheduler are both given; the first starts processes on this "
                "machine, the second uses a cluster that runs already: give one of them.",
                Cause.OPTION,
            )
        self._check_trust()

    def _check_trust(self) -> None:
        """Refuse a cluster whose members nobody knows, unless that is asked for.

        Raises:
            InputError: Says what is missing or too much.
        """
        files = {"--tls-ca": self.tls_ca, "--tls-cert": self.tls_cert, "--tls-key": self.tls_key}
        given = [name for name, value in files.items() if value is not None]
        missing = [name for name, value in files.items() if value is None]
        trust = [*given, *(["--insecure"] if self.insecure else [])]
        if self.scheduler is None:
            if trust:
                raise InputError(
                    f"{' and '.join(trust)} cannot be used without --scheduler, whose connections "
                    f"alone they are for; leave them out or give --scheduler.",
                    Cause.OPTION,
                )
        elif given and self.insecure:
            raise InputError(
                f"--insecure is given together with {' and '.join(given)}; give the certificates "
                f"or --insecure, not both.",
                Cause.OPTION,
            )
        elif missing and not self.insecure:
            raise InputError(
                f"--scheduler is given without {' and '.join(missing)}, and Dask runs code of "
                f"whoever takes part in a cluster; give --tls-ca, --tls-cert and --tls-key as the "
                f"scheduler and its workers have them, use --workers, which needs no network, or "
                f"give --insecure where you trust everybody who can reach the cluster.",
                Cause.OPTION,
            )

    def sides(self, *, candidate: bool) -> tuple[str, ...]:
        """The sides that are evaluated, the reference first.

        Args:
            candidate: Whether a candidate takes the converted model's place.

        Raises:
            InputError: One is asked for that there is not, or something that a candidate excludes.
        """
        reference, judged = FRAMEWORKS
        if candidate and self.framework in FRAMEWORKS:
            raise InputError(
                f"--framework {self.framework} leaves the candidate out; give --framework "
                f"candidate for the candidate alone, both for the two sides, or no candidate.",
                Cause.OPTION,
            )
        if not candidate and self.framework == CANDIDATE:
            raise InputError(
                "--framework candidate evaluates a candidate, but none is given; give one with "
                "--candidate or --detections, or another --framework.",
                Cause.OPTION,
            )
        if candidate and self.stage_swap:
            raise InputError(
                "--stage-swap exchanges stages of the converted model's own pipeline, which "
                "neither a candidate nor --detections has; leave --stage-swap or these out.",
                Cause.OPTION,
            )
        if self.framework != "both":
            return (self.framework,)
        return (reference, CANDIDATE if candidate else judged)
