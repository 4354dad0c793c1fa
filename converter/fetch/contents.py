"""Which of the files in an archive or folder make up a model's container, by their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from converter.formats.registry import endings
from converter.tensorflow_files.naming import (
    SAVED_MODEL,
    STATE_FILE,
    VARIABLES,
    checkpoint_prefix,
)
from efficientdet_spec import CONFIG_FILE

_REFUSED = (".keras", ".tflite", ".onnx")
"""What a reader will refuse with the reason, where an archive holds nothing better."""

_OF_SAVED_MODELS = ("keras_metadata.pb", "fingerprint.pb")


@dataclass(frozen=True)
class Container:
    """Files that belong together.

    Attributes:
        names: Where each of them goes, relative to a folder of its own, by its name.
        place: Which of these the container is named by: a checkpoint's prefix, a file, or
            ``saved_model.pb`` of a SavedModel.
        shown: What names it where it lies.
        is_checkpoint: Whether a state file can name it.
    """

    names: Mapping[str, str]
    place: str
    shown: str
    is_checkpoint: bool = False


def may_belong(name: str) -> bool:
    """Whether a file can be a container's, or lies beside one and is kept with it.

    Args:
        name: Its name, with folders.
    """
    last = PurePosixPath(name).name
    if last.startswith("._"):
        return False
    return (
        last in (STATE_FILE, CONFIG_FILE)
        or last.lower().endswith((*endings(), *_REFUSED))
        or checkpoint_prefix(name) is not None
    )


def containers(names: Iterable[str]) -> list[Container]:
    """Every container among some files, in the order of their names.

    Args:
        names: The files' names, with folders.
    """
    known = sorted(name for name in names if may_belong(name))
    files = frozenset(known)
    parts: dict[str, list[str]] = {}
    for name in known:
        if (prefix := checkpoint_prefix(name)) is not None:
            parts.setdefault(prefix, []).append(name)
    roots = [str(PurePosixPath(name).parent) for name in known if _last(name) == SAVED_MODEL]
    inner = {_joined(root, f"{VARIABLES}/{VARIABLES}"): root for root in roots}
    found = [_saved_model(root, parts, files) for root in roots]
    for prefix, belonging in parts.items():
        if prefix not in inner and f"{prefix}.index" in files:
            named = {name: _last(name) for name in belonging}
            found.append(Container(_with_beside(named, prefix, files), _last(prefix), prefix, True))
    found += [_file(name, files) for name in known if _is_single(name, tuple(endings()))]
    return found or [_file(name, files) for name in known if _is_single(name, _REFUSED)]


def chosen(found: list[Container], named: Collection[str]) -> Container | None:
    """The only one, or else the checkpoint that a state file names; None where none is.

    Args:
        found: The containers.
        named: The prefixes that state files name.
    """
    if len(found) > 1 and all(one.is_checkpoint for one in found):
        found = [one for one in found if one.shown in named]
    return found[0] if len(found) == 1 else None


def _saved_model(root: str, parts: Mapping[str, list[str]], files: frozenset[str]) -> Container:
    graph = _joined(root, SAVED_MODEL)
    inside = parts.get(_joined(root, f"{VARIABLES}/{VARIABLES}"), [])
    names = {graph: SAVED_MODEL, **{name: f"{VARIABLES}/{_last(name)}" for name in inside}}
    return Container(_with_config(names, graph, files), SAVED_MODEL, graph)


def _file(name: str, files: frozenset[str]) -> Container:
    return Container(_with_config({name: _last(name)}, name, files), _last(name), name)


def _with_config(names: Mapping[str, str], beside: str, files: frozenset[str]) -> dict[str, str]:
    config = str(PurePosixPath(beside).with_name(CONFIG_FILE))
    return {**names, **({config: CONFIG_FILE} if config in files else {})}


def _with_beside(names: Mapping[str, str], prefix: str, files: frozenset[str]) -> dict[str, str]:
    state = str(PurePosixPath(prefix).with_name(STATE_FILE))
    kept = {**names, **({state: STATE_FILE} if state in files else {})}
    return _with_config(kept, prefix, files)


def _is_single(name: str, suffixes: tuple[str, ...]) -> bool:
    last = _last(name)
    if last == SAVED_MODEL or last in _OF_SAVED_MODELS:
        return False
    return last.lower().endswith(suffixes)


def _last(name: str) -> str:
    return PurePosixPath(name).name


def _joined(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"
