"""The hyperparameters of a checkpoint: what was given where, and what is assumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converter.hparams.applying import SIZES, apply
from converter.hparams.keys import HONOURED, KNOWN, OF_A_RUN, REFUSED
from converter.hparams.labels import check_ids, is_file, read_file
from converter.hparams.override import parse_text
from converter.hparams.plain_yaml import read_yaml, yaml_text
from converter.hparams.words import assumed_facts, assumed_words, given_words
from efficientdet_spec import (
    CONFIG_FILE,
    MODELS,
    Cause,
    EfficientDetConfig,
    InputError,
    base_model,
    did_you_mean,
    get_config,
    printable,
)

OPTION = "--hparams"

RECORD_VERSION = 1

_SUFFIXES = (".yaml", ".yml")
_SHOWN = 8


@dataclass(frozen=True)
class Hyperparameters:
    """What is known of a model beside its tensors.

    Attributes:
        given: What is honoured, by official key.
        sources: Where each of these comes from, ``config.yaml`` or ``--hparams``.
        ignored: Official hyperparameters that no network depends on, and what a training script
            has added.
        read: The sources that there were.
        notes: What a user should know although nothing is wrong.
        settled: The model, where nothing is open any more.
        left_open: Of a model that a file says itself, by official key what is still an assumption;
            None where everything that nobody says is.
        levels: Lowest and highest level that the variables show; None where they do not.
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, Any] = field(default_factory=dict)
    read: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settled: EfficientDetConfig | None = None
    left_open: frozenset[str] | None = None
    levels: tuple[int, int] | None = None

    @classmethod
    def of(cls, prefix: Path | None, text: str | None = None) -> Hyperparameters:
        """What lies beside a checkpoint, and what was said in its place, key by key.

        Args:
            prefix: The checkpoint; None for none.
            text: As of ``--hparams``: the name of a YAML file, or ``key=value,...``.

        Raises:
            InputError: A file cannot be read, or holds what is refused.
        """
        beside = None if prefix is None else prefix.with_name(CONFIG_FILE)
        found = cls()
        # A link that leads nowhere is told of, not passed over.
        if beside is not None and (beside.exists() or beside.is_symlink()):
            found = _from_file(beside, CONFIG_FILE, beside=True)
        if text is None:
            return found._checked()
        asked = _from_option(text)
        return found._overridden(asked)._checked()

    @classmethod
    def exactly(cls, config: EfficientDetConfig) -> Hyperparameters:
        """Those of a model that has been decided on.

        Args:
            config: The model.
        """
        return cls(settled=config)

    def of_file(self, config: EfficientDetConfig, provenance: Mapping[str, Any]) -> Hyperparameters:
        """The same for a file that itself says what it holds.

        What lies beside it counts for nothing then; what was said in its place does.

        Args:
            config: The model, as the file says.
            provenance: Where its values come from, as the file says; what was assumed when it was
                written is an assumption still.

        Raises:
            InputError: A value that was given is impossible in this model.
        """
        if self.settled is not None:
            return self
        asked = {key for key, source in self.sources.items() if source != CONFIG_FILE}
        notes = self.notes
        if CONFIG_FILE in self.read:
            notes = (*notes, f"{CONFIG_FILE} is not read: the file itself says what it holds.")
        own = replace(
            self,
            given={key: value for key, value in self.given.items() if key in asked},
            sources={key: source for key, source in self.sources.items() if key in asked},
            read=tuple(source for source in self.read if source != CONFIG_FILE),
            notes=notes,
        )
        recorded = provenance.get("hyperparameters")
        assumed = recorded.get("assumed") if isinstance(recorded, Mapping) else None
        left_open = frozenset(map(str, assumed)) if isinstance(assumed, Mapping) else frozenset()
        return replace(own, settled=own.applied(config), left_open=left_open)

    def _overridden(self, other: Hyperparameters) -> Hyperparameters:
        """The same with another's values in place of its own."""
        given, ignored = dict(self.given), {**self.ignored, **other.ignored}
        changed = []
        for key, value in other.given.items():
            before = given.get(key)
            if isinstance(before, Mapping) and isinstance(value, Mapping) and key != "label_map":
                value = {**before, **value}
            if key in given and before != value:
                changed.append(f"{key} {given_words(key, before)}")
            given[key] = value
        notes = [*self.notes, *other.notes]
        if changed:
            notes.append(f"{OPTION} is taken in place of config.yaml's {', '.join(changed)}.")
        return replace(
            self,
            given=given,
            sources={**self.sources, **other.sources},
            ignored=ignored,
            read=(*self.read, *other.read),
            notes=tuple(notes),
        )

    def _checked(self) -> Hyperparameters:
        """The same, of which nothing is refused."""
        for key, refused in REFUSED.items():
            if key in self.ignored and not refused.taken(self.ignored[key]):
                raise InputError(
                    f"{self.sources[key]} says {key} {self.ignored[key]!r:.80}: {refused.reason}.",
                    Cause.MODEL,
                )
        own = self.given.get("fpn_config")
        replaced = [key for key in ("fpn_name", "fpn_weight_method") if self.given.get(key)]
        if own and replaced:
            told = f"fpn_config counts in place of {' and '.join(replaced)}."
            return replace(self, notes=(*self.notes, told))
        return self

    def base(self, model: str | None = None) -> EfficientDetConfig | None:
        """The model whose values count where nothing else is said; None where none is named.

        Args:
            model: What has been asked for, as of ``--model``.

        Raises:
            InputError: There is no such model, or ``name`` says another.
        """
        asked = None if model is None else get_config(model)
        name = self.given.get("name")
        if not isinstance(name, str) or not _is_official(name):
            return asked
        try:
            named = get_config(name)
        except InputError as error:
            raise InputError(f"{self.sources['name']}: {error}", Cause.MODEL) from error
        if asked is not None and base_model(asked.name) == named.name:
            # The variants' own config.yaml has the name of their model.
            return asked
        if asked is not None and asked.name != named.name:
            raise InputError(
                f"{self.sources['name']} says name {named.name}, but {asked.name} is asked for; "
                f"leave --model out, or give --hparams name={asked.name}.",
                Cause.OPTION,
            )
        return named

    def applied(self, base: EfficientDetConfig) -> EfficientDetConfig:
        """A model with what is given.

        Args:
            base: Its values count where nothing is said.

        Raises:
            InputError: A value is impossible, alone or in this model.
        """
        try:
            return apply(self._with_levels(base), self.given)
        except InputError as error:
            where = " and ".join(self.read)
            raise InputError(f"{where}: {error}", error.cause) from error

    def _with_levels(self, base: EfficientDetConfig) -> EfficientDetConfig:
        """A model with the levels that the variables show: what is given may be one a level."""
        if self.levels is None or not {"min_level", "max_level"}.isdisjoint(self.given):
            return base
        try:
            return replace(base, min_level=self.levels[0], max_level=self.levels[1])
        except InputError:
            return base

    def from_file(self, release_model: str | None) -> str | None:
        """The variant of a model that a checkpoint's origin tells, where its file names the model.

        The official ``config.yaml`` of a variant, such as one trained with Det-AdvProp, has the
        name of its model.

        Args:
            release_model: The variant; None where the origin tells none.
        """
        name = self.given.get("name")
        if release_model is None or self.sources.get("name") != CONFIG_FILE:
            return None
        return release_model if name == base_model(release_model) else None

    def named(self, model: str | None = None) -> EfficientDetConfig | None:
        """The model that is asked for, with what is given; None where none is.

        Args:
            model: What has been asked for, as of ``--model``.

        Raises:
            InputError: There is no such model, or a value is impossible in it.
        """
        if self.settled is not None:
            return self.settled
        base = self.base(model)
        return None if base is None else self.applied(base)

    def models(self, named: EfficientDetConfig | None) -> tuple[EfficientDetConfig, ...]:
        """The models that a checkpoint may be of, with what is given.

        Args:
            named: The one that is asked for, which stands for the model of its name; the others
                are as they are, for a message on what the checkpoint is of.

        Raises:
            InputError: A value is impossible in each of the models.
        """
        if named is not None:
            base = base_model(named.name)
            others = [config for config in MODELS.values() if config.name != base]
            return (*others, replace(named, name=base))
        if not self.given:
            return tuple(MODELS.values())
        found, failed = [], None
        for config in MODELS.values():
            try:
                found.append(self.applied(config))
            except InputError as error:
                failed = failed or error
        if not found and failed is not None:
            # Of which of them it is impossible says nothing.
            first = next(iter(MODELS))
            raise InputError(str(failed).replace(f"{first}: ", "", 1), failed.cause)
        return tuple(_once(found))

    def require(self, config: EfficientDetConfig, source: str) -> None:
        """Refuse a checkpoint with another number of classes than is given, or named.

        Args:
            config: The model, as its variables say.
            source: The checkpoint, for messages.

        Raises:
            InputError: It has.
        """
        wanted = self.given.get("num_classes", config.num_classes)
        if config.num_classes != wanted:
            raise InputError(
                f"{source} has {config.num_classes} classes, but {self.sources['num_classes']} "
                f"says num_classes {wanted}; correct it, or give the checkpoint that it is of.",
                Cause.MODEL,
            )
        self.require_labels(config)

    def require_labels(self, config: EfficientDetConfig) -> None:
        """Refuse a label map with ids that the model does not have.

        Only where the number of classes is known for certain can it be told, so that a model that
        is still to be chosen for a checkpoint is not asked.

        Args:
            config: The model, with what is given.

        Raises:
            InputError: It has such an id.
        """
        if "label_map" not in self.given:
            return
        try:
            check_ids(config.label_map, config.num_classes)
        except InputError as error:
            raise InputError(f"{self.sources['label_map']}: {error}", error.cause) from error

    def assumed(self, config: EfficientDetConfig) -> Mapping[str, str]:
        """What is assumed of a model, in words by official key.

        Args:
            config: The model.
        """
        told = set(self.given)
        if "fpn_config" in told:
            told |= {"fpn_name", "fpn_weight_method"}
        return {
            key: words
            for key, words in assumed_facts(config).items()
            if key not in told and (self.left_open is None or key in self.left_open)
        }

    def sentence(self, config: EfficientDetConfig) -> str:
        """In one line what was given and what is assumed.

        Args:
            config: The model.
        """
        parts = ["as the file itself says"] if self.left_open is not None else []
        for source in self.read:
            keys = [key for key in self.given if self.sources[key] == source and key != "name"]
            told = [key for key in keys if not self._as_known(key, config)]
            words = [f"{key} {given_words(key, self.given[key])}" for key in told]
            if len(keys) > len(told):
                count = len(keys) - len(told)
                more = "other " if told else ""
                words.append(f"{count} {more}value{'s' * (count > 1)} as of {config.name}")
            if words:
                parts.append(f"from {source}: {', '.join(words)}")
        assumed = assumed_words(self.assumed(config))
        if assumed:
            none = "" if CONFIG_FILE in self.read or self.settled else f" (no {CONFIG_FILE})"
            parts.append(f"assumed: {', '.join(assumed)}{none}")
        return "; ".join(parts)

    def _as_known(self, key: str, config: EfficientDetConfig) -> bool:
        """Whether a value is the one of the model whose name the model has."""
        try:
            known = get_config(config.name)
            return apply(known, {key: self.given[key]}) == known
        except InputError:
            return False

    def record(self, config: EfficientDetConfig) -> dict[str, Any]:
        """All of it as plain values, for results and ``.pth`` files.

        Args:
            config: The model.
        """
        return {
            "version": RECORD_VERSION,
            "sentence": self.sentence(config),
            "source": list(self.read),
            "given": {key: _plain(value) for key, value in self.given.items()},
            "assumed": dict(self.assumed(config)),
            "config": config.to_dict(),
            "ignored": {key: _plain(value) for key, value in self.ignored.items()},
            "notes": list(self.notes),
        }

    def file_text(self, config: EfficientDetConfig) -> str:
        """A ``config.yaml`` that says what was given, for a checkpoint of this model.

        Args:
            config: The model.
        """
        known = {"name": config.name, "num_classes": config.num_classes}
        given = dict(self.given)
        if "image_size" in given:
            height, width = config.image_size
            # The only form that is neither ambiguous nor special to one language.
            given["image_size"] = f"{width}x{height}"
        return yaml_text({**given, **known})


NOTHING = Hyperparameters()
"""Where nothing was given."""


def _once(configs: Iterable[EfficientDetConfig]) -> list[EfficientDetConfig]:
    """Those that differ in more than their name: what is given may say all that a model is."""
    found: dict[EfficientDetConfig, EfficientDetConfig] = {}
    for config in configs:
        nameless = replace(config, name="")
        before = found.get(nameless)
        if before is None or _distance(config) < _distance(before):
            found[nameless] = config
    return list(found.values())


def _distance(config: EfficientDetConfig) -> int:
    """In how many values a model differs from the one whose name it has."""
    known = get_config(config.name).to_dict()
    return sum(known.get(key) != value for key, value in config.to_dict().items())


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not -1e308 < value < 1e308:
        return str(value)
    return value


def _from_option(text: str) -> Hyperparameters:
    """What ``--hparams`` says."""
    path = Path(text).expanduser()
    named = text.endswith(_SUFFIXES) and ("=" not in text or path.is_file())
    if named:
        return _from_file(path, OPTION, beside=False)
    values = parse_text(text)
    if isinstance(values.get("image_size"), list):
        raise InputError(
            f"--hparams has image_size {values['image_size']!r:.60}; give one number, or "
            f"WIDTHxHEIGHT ({SIZES}).",
            Cause.OPTION,
        )
    unknown = [key for key in values if key not in KNOWN]
    if unknown:
        raise _unknown(unknown, OPTION)
    if is_file(values.get("label_map")):
        values["label_map"] = read_file(Path(values["label_map"]).expanduser())
    return _sorted_out(values, OPTION)


def _unknown(keys: list[str], where: str) -> InputError:
    return InputError(
        f"{where} has {_listed(keys)}, which is no official hyperparameter; see "
        f"docs/hyperparameters.md for those that there are.",
        Cause.OPTION,
    )


def _listed(keys: list[str]) -> str:
    """Unknown keys, each with the one that may be meant."""
    known = (*KNOWN, *OF_A_RUN)
    shown = []
    for key in keys[:_SHOWN]:
        # A key of a training script's own run is none of the model's.
        others = [name for name in known if name != key]
        said = f"{printable(key)!s:.60}{did_you_mean(str(key), others)}"
        shown.append(said if key.strip() else "an empty key")
    more = len(keys) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _from_file(path: Path, source: str, *, beside: bool) -> Hyperparameters:
    """What a YAML file says.

    Args:
        path: The file.
        source: What it is called in sentences.
        beside: Whether it was found beside a checkpoint, and not named by the user.
    """
    values = read_yaml(path)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InputError(
            f"{path} holds no mapping of hyperparameters; write key: value in each line"
            f"{', or move it away from the checkpoint' if beside else ''}.",
            Cause.FORMAT,
        )
    unknown = [str(key) for key in values if key not in KNOWN and key not in OF_A_RUN]
    if unknown and not beside:
        raise _unknown(unknown, str(path))
    notes = []
    if unknown:
        told = "is no hyperparameter" if len(unknown) == 1 else "are no hyperparameters"
        notes.append(f"{CONFIG_FILE} has {_listed(unknown)}, which {told} of EfficientDet.")
    values = {key: value for key, value in values.items() if str(key) not in unknown}
    if is_file(values.get("label_map")):
        values, told_of_labels = _with_labels(values, path)
        notes += told_of_labels
    found = _sorted_out(values, source)
    return replace(found, notes=(*notes, *found.notes))


def _with_labels(values: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """The values with the label map that they name, which has to lie beside their file.

    A file from elsewhere may name any path, so that only the last part of it counts.
    """
    name = values["label_map"].replace("\\", "/").rpartition("/")[2]
    labels = path.with_name(name)
    if labels.is_file():
        return {**values, "label_map": read_file(labels)}, []
    told = f"label_map names {printable(name)!s:.60}, which is not beside {path.name}."
    return {key: value for key, value in values.items() if key != "label_map"}, [told]


def _is_official(name: Any) -> bool:
    """Whether a name is meant to be that of an official model."""
    return isinstance(name, str) and name.startswith("efficientdet-")


def _sorted_out(values: Mapping[str, Any], source: str) -> Hyperparameters:
    given = {key: value for key, value in values.items() if key in HONOURED}
    others = {key: value for key, value in values.items() if key not in HONOURED}
    name = given.get("name")
    notes = []
    if name is not None and not isinstance(name, str):
        raise InputError(
            f"{source} says name {name!r:.60}; give one of {', '.join(MODELS)}.", Cause.OPTION
        )
    if name is not None and not _is_official(name):
        notes.append(
            f"name {printable(name)!s:.60} is none of the models, so it does not say which it is."
        )
    return Hyperparameters(
        given=MappingProxyType(given),
        sources=dict.fromkeys(values, source),
        ignored=MappingProxyType(others),
        read=(source,),
        notes=tuple(notes),
    )
