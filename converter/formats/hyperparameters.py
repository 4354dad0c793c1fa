"""What becomes of hyperparameters where a container has room for tensors alone.

A folder gets a ``config.yaml`` beside the checkpoint, as official training writes one. Beside a
single file nothing is written, so that the user is told what to say when it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from converter.formats.target import Values
from converter.hparams.given import Hyperparameters
from converter.hparams.plain_yaml import MAX_BYTES, parse_yaml, yaml_text
from converter.hparams.words import assumed_facts
from converter.hparams.writing import line_of, official_values, reads_as
from converter.tensorflow_files.bundle import index_file
from converter.tensorflow_files.bundle_writer import turns
from efficientdet_spec import (
    CONFIG_FILE,
    MODELS,
    Cause,
    EfficientDetConfig,
    InputError,
    base_model,
    get_config,
    listed,
    printable,
    read_regular,
    replacing,
    same_variables,
    shortened,
    sync,
)

_MARK = "# Written by efficientdet-parity with the checkpoint beside it; sha256 "
"""What our files begin with, before the digest of the rest: one that was edited is the user's."""

_FROM_TENSORS = frozenset({"name", "num_classes"})
"""What nobody needs to say."""

_LISTED = ("fpn_config", "backbone_config", "label_map")
"""What no tensor shows, besides what is assumed where nobody says it."""


@dataclass(frozen=True)
class ConfigFile:
    """The ``config.yaml`` that is to lie beside a checkpoint.

    Attributes:
        path: The file.
        text: What it is to hold; None where one is there that says the same, which stays.
    """

    path: Path
    text: str | None

    @classmethod
    def beside(cls, prefix: Path, values: Values) -> ConfigFile:
        """Decide what is to be written, before anything is.

        A file of ours that nobody has edited goes with the checkpoint that is replaced. Any other
        is the user's: where it says just this model it stays as it is, with what it says of
        training; where it says anything else it would be read as this checkpoint's
        hyperparameters, or this one's as those of another checkpoint, so that is refused.

        Args:
            prefix: What the names of the checkpoint's files begin with.
            values: What is written there.

        Raises:
            InputError: Another file is in the way, another checkpoint in the folder would get a
                file that is not its own, or the hyperparameters cannot be written.
        """
        path, text = prefix.with_name(CONFIG_FILE), _file_text(values)
        there = path.exists() or path.is_symlink()
        if there and _is_ours(path):
            if path.read_text("utf-8") == text:
                return cls(path, text)
        elif there:
            if not _says(prefix, values.config):
                raise InputError(
                    f"{path} is there, says something else than this model, and would be read as "
                    f"its hyperparameters; move it away, or name another folder.",
                    Cause.FILE,
                )
            return cls(path, None)
        own = {index_file(name).name for name in turns(prefix)}
        others = sorted({item.name for item in prefix.parent.glob("*.index")} - own)
        if others:
            names = [shortened(printable(name), 80) for name in others]
            raise InputError(
                f"{prefix.parent} has another checkpoint ({listed(names, most=3)}), of which the "
                f"{CONFIG_FILE} of this one would be read too; name another folder.",
                Cause.FILE,
            )
        return cls(path, text)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, where it is written."""
        return () if self.text is None else (self.path,)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know."""
        if self.text is not None:
            return ()
        return (f"{CONFIG_FILE} was there and says just this model, so it stays as it is.",)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write the file; it takes its place once the checkpoint, written meanwhile, is complete.

        Raises:
            InputError: It cannot be written.
        """
        if self.text is None:
            yield
            return
        try:
            with replacing(self.path) as temporary:
                temporary.write_text(self.text, "utf-8")
                # Nothing may be left to fail where only one of both is there.
                sync(temporary)
                yield
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written ({error.strerror or error}); give a folder that "
                f"is writable and has room.",
                Cause.of(error),
            ) from error


def _file_text(values: Values) -> str:
    """The content of a ``config.yaml`` that says what a model is, and is read as just that.

    Raises:
        InputError: No such file can say it.
    """
    official = official_values(values.config, _stated(values))
    body = yaml_text(official)
    text = f"{_MARK}{_digest(body)}\n{body}"
    try:
        read = parse_yaml(text.encode(), CONFIG_FILE) if len(text.encode()) <= MAX_BYTES else None
        readable = isinstance(read, Mapping) and reads_as(read, values.config)
    except (InputError, UnicodeEncodeError):
        readable = False
    if not readable:
        raise InputError(
            f"{values.config.name} has hyperparameters that no {CONFIG_FILE} of at most "
            f"{MAX_BYTES:,} bytes can say ({listed(official, most=8)}), such as many or odd names "
            f"of classes; write a .pth or .safetensors, which holds them itself.",
            Cause.MODEL,
        )
    return text


def _stated(values: Values) -> frozenset[str]:
    """Keys of what somebody has said, although it is as usual, so that nobody need assume it."""
    recorded = values.provenance.get("hyperparameters")
    assumed = recorded.get("assumed") if isinstance(recorded, Mapping) else None
    if not isinstance(assumed, Mapping):
        return frozenset()
    return frozenset(assumed_facts(values.config)) - assumed.keys()


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()[:16]


def _is_ours(path: Path) -> bool:
    """Whether a file is as it was written here."""
    try:
        head, _, body = read_regular(path, MAX_BYTES).decode().partition("\n")
    except (OSError, ValueError):
        return False
    return head == _MARK + _digest(body)


def _says(prefix: Path, config: EfficientDetConfig) -> bool:
    """Whether what lies beside a checkpoint says just what a model is.

    Raises:
        InputError: It cannot be read.
    """
    known = Hyperparameters.of(prefix)
    base = known.base() or get_config(base_model(config.name))
    values = {"num_classes": config.num_classes, **known.given}
    return base_model(base.name) == base_model(config.name) and reads_as(
        values, replace(config, name=base.name)
    )


def unsaid(config: EfficientDetConfig, project: str = "") -> tuple[str, ...]:
    """What to tell of a file that holds tensors alone.

    Args:
        config: The model.
        project: The code base that is to load the file; empty for this one and the official code.

    Returns:
        A sentence on what has to be said when it is read, where anything has.
    """
    official = official_values(config)
    needed = official.keys() - _FROM_TENSORS
    if not project:
        needed &= {*assumed_facts(config), *_LISTED}
    keys = [key for key in official if key in needed]
    name = official["name"]
    twins = [other for other in same_variables(name) if other in MODELS]
    if not keys and not twins:
        return ()
    what = f"that it is {name}, and not {' or '.join(twins)}"
    if keys:
        which = f"which is otherwise than {name} has it"
        if len(keys) > 1:
            which = f"which are otherwise than {name} has them"
        what = f"its {listed(keys, most=8)}, {which}"
    line = line_of({key: official[key] for key in official if key != "num_classes"})
    how = f"give --hparams '{line}' when it is read"
    if line is None:
        how = "give them with --hparams FILE.yaml when it is read, such as --to tf1 writes"
    also = f", and give them to the model's constructor in {project} too" if project else ""
    return (f"The file does not say {what}: {how}{also if keys else ''}.",)
