"""Settings that several commands have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientdet_spec import MODELS, VARIANTS, Cause, InputError, parse_size
from efficientdet_spec.forms import EAGER, FORMS
from parity.results.records.shared import Weights
from parity.settings.option import (
    CHECKPOINT,
    COMPUTING,
    INPUT,
    RESULTS,
    SIDES,
    Settings,
    option,
)

MAX_RUNS = 10_000
MAX_BATCH = 1024
_MAX_THREADS = 1024

WEIGHTS = tuple(item.value for item in Weights)
"""Which of a checkpoint's values there are."""

Size = tuple[int, int]
"""Height and width in pixels."""


def size_text(size: Size) -> str:
    """As command lines write it: HxW.

    Args:
        size: Height and width in pixels.
    """
    height, width = size
    return f"{height}x{width}"


@dataclass(frozen=True, kw_only=True)
class CacheSettings(Settings):
    """Where downloads are kept."""

    cache: Path | None = option(
        "folder for downloads; the environment variable EFFICIENTDET_CACHE names it too",
        default=None,
        group=CHECKPOINT,
        metavar="DIR",
    )


def _sha256(text: str) -> str:
    """A SHA-256, in lower case.

    Raises:
        InputError: It is none.
    """
    if not re.fullmatch("[0-9A-Fa-f]{64}", text):
        raise InputError(
            f"--sha256 is {text!r:.100}; give the 64 hexadecimal digits of the archive's SHA-256.",
            Cause.OPTION,
        )
    return text.lower()


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(CacheSettings):
    """Whether something may be downloaded, and what it must be."""

    sha256: str | None = option(
        "refuse an archive, downloaded or given as a file, with another SHA-256",
        default=None,
        group=CHECKPOINT,
        metavar="HEX",
        read=_sha256,
    )
    offline: bool = option(
        "download nothing, use what is on the disk; the environment variable "
        "EFFICIENTDET_OFFLINE=1 says it too",
        default=False,
        group=CHECKPOINT,
    )


def hparams_text(value: Any) -> str:
    """Hyperparameters as a command line writes them.

    Args:
        value: Such a text, a file's path, or a mapping by official key.
    """
    if not isinstance(value, Mapping):
        return str(value)
    return ",".join(f"{key}={_hparam_text(item)}" for key, item in value.items())


def _hparam_text(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        return repr(dict(value) if isinstance(value, Mapping) else value)
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def hparams_option() -> Any:
    """The setting ``--hparams``, wherever a command takes a model."""
    return option(
        "hyperparameters that the weights do not show, as the official code writes them: a YAML "
        "file, or key=value,... such as act_type=relu6,anchor_scale=0.25 (here image_size is WxH, "
        "while --size is HxW); they count in place of those in a config.yaml beside the "
        "checkpoint, and what nobody gives is assumed and said",
        default=None,
        group=CHECKPOINT,
        metavar="FILE|KEY=VALUE,...",
        read=str,
        written=hparams_text,
    )


SOURCES = (
    "checkpoint folder, prefix or .index, SavedModel folder, .pb, .h5, .pth, .safetensors, an "
    "archive or http(s) address of one, or an official name such as efficientdet-d4, which is "
    "downloaded"
)
"""What a command takes a model's values from."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings(DownloadSettings):
    """A checkpoint, and which of its values are taken."""

    checkpoint: str = option(
        SOURCES,
        group=CHECKPOINT,
        positional=True,
        metavar="CHECKPOINT",
        path=True,
    )
    weights: str = option(
        "moving averages where the file has them (the published AP is theirs), or the raw values",
        default="ema",
        choices=WEIGHTS,
        group=CHECKPOINT,
    )
    model: str | None = option(
        f"of a checkpoint that does not say which it is; one of {', '.join(MODELS)}, or a variant "
        f"that models lists, such as {next(iter(VARIANTS))}",
        default=None,
        group=CHECKPOINT,
        metavar="NAME",
    )
    strip_prefix: str = option(
        "read the file's names without this before them, such as model/",
        default="",
        group=CHECKPOINT,
        metavar="TEXT",
    )
    num_classes: int | None = option(
        "refuse a file with another number of classes",
        default=None,
        group=CHECKPOINT,
        metavar="N",
    )
    hparams: str | None = hparams_option()


@dataclass(frozen=True, kw_only=True)
class SizeSettings(Settings):
    """The size of the network's input."""

    size: Size | None = option(
        "height and width of the network's input in pixels, such as 512x640; default: the model's "
        "native size",
        default=None,
        group=INPUT,
        metavar="HxW",
        read=parse_size,
        written=size_text,
    )


@dataclass(frozen=True, kw_only=True)
class ThreadSettings(Settings):
    """How many threads compute."""

    threads: int | None = option(
        "threads within one operation, on both sides; default: as many as there are processors",
        default=None,
        lowest=1,
        highest=_MAX_THREADS,
        group=COMPUTING,
        metavar="N",
    )


@dataclass(frozen=True, kw_only=True)
class ComputeSettings(CheckpointSettings, SizeSettings, ThreadSettings):
    """What both networks are filled with, and how they compute."""

    dtype: str = option(
        "type in which both sides compute; float64 shows that their structure is one",
        default="float32",
        choices=("float32", "float64"),
        group=COMPUTING,
    )


@dataclass(frozen=True, kw_only=True)
class ImageSettings(ComputeSettings):
    """A single image to compute on."""

    image: Path | None = option(
        "image file; default: a generated one", default=None, group=INPUT, metavar="FILE"
    )


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Settings):
    """Where networks compute."""

    device: str = option(
        "where the candidate computes", default="cpu", choices=("cpu", "cuda"), group=COMPUTING
    )


@dataclass(frozen=True, kw_only=True)
class FormSettings(Settings):
    """How the converted model computes, where that is what a command runs."""

    form: str = option(
        "how the converted model computes: eager, layer by layer, or optimized, with batch norms "
        "folded and compiled for the images' shape, which is faster and takes some seconds first",
        default=EAGER,
        choices=FORMS,
        group=COMPUTING,
    )

    def check_form(self, candidate: str | None) -> None:
        """Refuse a form of a model that does not run.

        Args:
            candidate: What runs in the converted model's place.

        Raises:
            InputError: The form is that of nothing.
        """
        if self.form != EAGER and candidate is not None:
            raise InputError(
                f"--form {self.form} is that of the converted model, and --candidate runs in its "
                f"place; leave --form out, and let the candidate be given in the form it runs in.",
                Cause.OPTION,
            )


@dataclass(frozen=True, kw_only=True)
class DetectionSettings(
    CheckpointSettings, SizeSettings, ThreadSettings, DeviceSettings, FormSettings
):
    """A model and the stages around it, and where results go."""

    candidate: str | None = option(
        "your own port, whose network runs between the stages of --profile in the place of the "
        "converted model's, as of nodes: FILE.py:FUNCTION, a .pth of convert, or PACKAGE:MODEL",
        default=None,
        metavar="MODEL",
        group=SIDES,
        path=True,
    )
    names: Path | None = option(
        "as of nodes: submodules of the candidate for some or all nodes, where its outputs are not "
        "found without them",
        default=None,
        group=SIDES,
        metavar="FILE.json",
    )
    out: Path = option("folder for the results", group=RESULTS, metavar="DIR")
    profile: str = option(
        "variants of the stages around the network; another name lists them all",
        default="official",
        group=COMPUTING,
        metavar="NAME",
    )
    stage: tuple[str, ...] = option(
        "another variant of one stage, such as nms=hard; can be given several times",
        default=(),
        group=COMPUTING,
        metavar="STAGE=VARIANT",
    )
    batch_size: int = option(
        "images that a network is given together; a candidate made for a fixed number needs that",
        default=1,
        lowest=1,
        highest=MAX_BATCH,
        group=COMPUTING,
        metavar="N",
    )

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            InputError: Says which.
        """
        if self.names is not None and self.candidate is None:
            raise InputError(
                "--names names submodules of a candidate, but --candidate is not given; give both "
                "or neither.",
                Cause.OPTION,
            )
        self.check_form(self.candidate)
