"""What ``convert`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import Cause, InputError
from parity.settings.option import CHECKPOINT, RESULTS, json_option, option
from parity.settings.shared import SOURCES, WEIGHTS, CheckpointSettings

CONVERTED_WEIGHTS = (*WEIGHTS, "both")
"""Which values a conversion takes."""

ANY_BACKBONE = "any"
"""As of :mod:`converter.backbones`, which takes long to import."""


@dataclass(frozen=True, kw_only=True)
class ConvertSettings(CheckpointSettings):
    """A conversion."""

    COMMAND = "convert"
    RESULT = "json"
    HELP = "convert a model's file to another: TensorFlow, Keras, PyTorch, safetensors, both ways"
    ABOUT = (
        "Reads every tensor of a file, verifies its checksums where it has some, recognises the "
        "model, and writes its values in another form, with an account of every tensor of both "
        "files."
    )
    EXAMPLES = (
        ("convert efficientdet-d0/ d0.pth", "convert a checkpoint"),
        ("convert efficientdet-d4 d4.pth", "download an official one and convert it"),
        ("convert d0.pth tf/d0 --to tf1", "back to a TensorFlow 1 checkpoint, in a folder"),
        ("convert efficientdet-d0/ --list", "what becomes of every variable"),
    )

    checkpoint: str = option(
        SOURCES,
        group=CHECKPOINT,
        positional=True,
        metavar="SOURCE",
        path=True,
    )
    weights: str = option(
        "moving averages where the file has them (the published AP is theirs), the raw values, or "
        "both together, which official training goes on from",
        default="ema",
        choices=CONVERTED_WEIGHTS,
        group=CHECKPOINT,
    )
    target: Path | None = option(
        "file or folder to write; .pth, .safetensors and .h5 say by their ending what it is to be",
        default=None,
        group=RESULTS,
        positional=True,
        metavar="TARGET",
    )
    list: bool = option(
        "print what becomes of every variable; needs no TARGET", default=False, group=RESULTS
    )
    filter: str | None = option(
        "with --list: only variables and parameters whose name is like this, such as '*box_net*'",
        default=None,
        group=RESULTS,
        metavar="GLOB",
    )
    to: str | None = option(
        "what TARGET is to be, where its ending does not say so: a TensorFlow 1 or 2 checkpoint in "
        "a folder (tf1, tf2), or a state dict with the keys of another code base (effdet, zylo117)",
        default=None,
        group=RESULTS,
        metavar="KIND",
    )
    no_ema: bool = option(
        "with --to tf1: no moving averages beside the variables; the official restore asks for "
        "them by default",
        default=False,
        group=RESULTS,
    )
    backbone: str | None = option(
        "convert the backbone alone, of an EfficientNet that classifies or of a detector, for "
        "load_backbone to start training from; NAME where its variables are below another scope",
        default=None,
        group=CHECKPOINT,
        metavar="NAME",
        bare=ANY_BACKBONE,
    )
    json: str | None = json_option("the result")

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            InputError: Says which.
        """
        if self.filter is not None and not self.list:
            raise InputError("--filter chooses rows of --list; give both.", Cause.OPTION)
        if self.no_ema and self.weights == CONVERTED_WEIGHTS[-1]:
            raise InputError(
                "--no-ema leaves out the moving averages that --weights both asks for; leave one "
                "of the two out.",
                Cause.OPTION,
            )
        if self.backbone is not None:
            self._check_backbone(self.backbone)
        if self.list and self.to is not None:
            raise InputError(
                "--to is about TARGET, which --list does not write; leave one of the two out.",
                Cause.OPTION,
            )
        if self.no_ema and self.to != "tf1":
            raise InputError(
                "--no-ema leaves the moving averages out of a TensorFlow 1 checkpoint; give --to "
                "tf1 with it.",
                Cause.OPTION,
            )

    def _check_backbone(self, name: str) -> None:
        from converter.backbones import check_backbone

        check_backbone(name)
        others = {
            "--model": self.model,
            "--num-classes": self.num_classes,
            "--hparams": self.hparams,
            "--to": self.to,
        }
        given = [option for option, value in others.items() if value]
        if given:
            raise InputError(
                f"{given[0]} is about a whole detector, and --backbone asks for the backbone "
                f"alone; leave one of the two out.",
                Cause.OPTION,
            )
