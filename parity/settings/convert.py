"""What ``convert`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import Cause, InputError
from parity.settings.option import CHECKPOINT, PRINTED, RESULTS, option
from parity.settings.shared import CheckpointSettings

ANY_BACKBONE = "any"
"""As of :mod:`converter.backbones`, which takes long to import."""


@dataclass(frozen=True, kw_only=True)
class ConvertSettings(CheckpointSettings):
    """A conversion."""

    COMMAND = "convert"
    RESULT = "json"
    HELP = "convert a TensorFlow 1 EfficientDet checkpoint to a PyTorch .pth file"
    ABOUT = (
        "Reads every variable of a checkpoint, verifies its checksums, recognises the model, and "
        "writes a .pth file that says where each value came from."
    )
    EXAMPLES = (
        ("convert efficientdet-d0/ d0.pth", "convert a checkpoint"),
        ("convert efficientdet-d4 d4.pth", "download an official one and convert it"),
        ("convert efficientdet-d0/ --list", "what becomes of every variable"),
    )

    checkpoint: str = option(
        "checkpoint folder, prefix, .index, .tar.gz/.tgz, http(s) address of one, or an official "
        "name such as efficientdet-d4, which is downloaded",
        group=CHECKPOINT,
        positional=True,
        metavar="SOURCE",
        path=True,
    )
    target: Path | None = option(
        "file to write, ending in .pth",
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
    naming: str | None = option(
        "write a plain state dict with the keys of another code base, effdet or zylo117, for its "
        "load_state_dict; default: this project's own .pth",
        default=None,
        group=RESULTS,
        metavar="NAMING",
    )
    backbone: str | None = option(
        "convert the backbone alone, of an EfficientNet that classifies or of a detector, for "
        "load_backbone to start training from; NAME where its variables are below another scope",
        default=None,
        group=CHECKPOINT,
        metavar="NAME",
        bare=ANY_BACKBONE,
    )
    json: str | None = option(
        "write the result as JSON to FILE, or print it in place of the text",
        default=None,
        group=RESULTS,
        metavar="FILE",
        bare=PRINTED,
        path=True,
    )

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            InputError: Says which.
        """
        if self.filter is not None and not self.list:
            raise InputError("--filter chooses rows of --list; give both.", Cause.OPTION)
        if self.backbone is not None:
            self._check_backbone(self.backbone)
        if self.naming is not None:
            from converter.mappings.state_dicts import get_naming

            get_naming(self.naming)
            if self.list:
                raise InputError(
                    "--naming is about TARGET, which --list does not write; leave one of the two "
                    "out.",
                    Cause.OPTION,
                )

    def _check_backbone(self, name: str) -> None:
        from converter.backbones import check_backbone

        check_backbone(name)
        others = {
            "--model": self.model,
            "--num-classes": self.num_classes,
            "--hparams": self.hparams,
            "--naming": self.naming,
        }
        given = [option for option, value in others.items() if value]
        if given:
            raise InputError(
                f"{given[0]} is about a whole detector, and --backbone asks for the backbone "
                f"alone; leave one of the two out.",
                Cause.OPTION,
            )
