"""Files of PyTorch's written from arrays, each complete or not at all; NumPy only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from efficientdet_spec import EfficientDetConfig
from torch_model.container_writing import writing_torch_file
from torch_model.model_file import BACKBONE_FORMAT, FORMAT, described, tensor_digest
from torch_model.pickled import StoredTensor

_BACKBONE = "backbone."
"""What the names of a backbone's parameters begin with in a detector."""


Named = Iterable[tuple[str, NDArray[Any]]]
"""Arrays with their names, one after another."""


def save_stream(
    path: str | os.PathLike[str],
    config: EfficientDetConfig,
    arrays: Named,
    told: Callable[[], Mapping[str, Any]],
    raw: Named | None = None,
    kind: str = FORMAT,
) -> None:
    """Write a model as a ``.pth``, for :func:`torch_model.load`, from values that come in turn.

    Args:
        path: The file.
        config: The model.
        arrays: An array for each parameter: the values that are the model. Each is written as it
            comes, and kept no longer.
        told: Says where they came from, as plain values; it is called when all have come. Where it
            raises, nothing is written.
        raw: The raw values beside the moving averages, likewise; None where there are none. A
            file with raw values is of version 3, which programs that know only version 2 refuse;
            without, it is of version 2.
        kind: ``FORMAT``, or ``BACKBONE_FORMAT`` for a backbone alone.

    Raises:
        InputError: The file cannot be written (no such folder, no right, disk full), or the
            provenance holds what is no plain value.
    """
    with writing_torch_file(Path(path), tensor_digest) as file:
        tensors = {name: file.add(array) for name, array in arrays}
        raw_tensors = None if raw is None else {name: file.add(array) for name, array in raw}
        file.settle()
        provenance, found = told(), file.digests()

        def digests(of: Mapping[str, StoredTensor]) -> dict[str, str]:
            return {name: found[tensor.storage.key] for name, tensor in of.items()}

        raw_digests = None if raw_tensors is None else digests(raw_tensors)
        said = described(kind, config, provenance, digests(tensors), raw_digests)
        beside = {} if raw_tensors is None else {"raw_state_dict": raw_tensors}
        file.finish({**said, "state_dict": tensors, **beside})


def save_arrays(
    path: str | os.PathLike[str],
    config: EfficientDetConfig,
    arrays: Mapping[str, NDArray[Any]],
    provenance: Mapping[str, Any],
    raw: Mapping[str, NDArray[Any]] | None = None,
    kind: str = FORMAT,
) -> None:
    """Write a model as a ``.pth``, as :func:`save_stream` does.

    Args:
        path: The file.
        config: The model.
        arrays: An array for each parameter.
        provenance: Where they came from, as plain values.
        raw: The raw values beside the moving averages, likewise; None where there are none.
        kind: As of :func:`save_stream`.

    Raises:
        InputError: As of :func:`save_stream`.
    """
    beside = None if raw is None else raw.items()
    save_stream(path, config, arrays.items(), lambda: provenance, beside, kind)


def save_backbone(
    path: str | os.PathLike[str],
    config: EfficientDetConfig,
    arrays: Mapping[str, NDArray[Any]],
    provenance: Mapping[str, Any],
) -> None:
    """Write the arrays of a backbone alone, for :func:`torch_model.checkpoint.load_backbone`.

    Args:
        path: The file.
        config: Of a detector with this backbone.
        arrays: An array for each parameter, by its name in the detector.
        provenance: Where they came from, as plain values.

    Raises:
        InputError: As of :func:`save_arrays`.
    """
    own = {name.removeprefix(_BACKBONE): array for name, array in arrays.items()}
    save_arrays(path, config, own, provenance, kind=BACKBONE_FORMAT)


def save_state_dict(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a plain state dict, which says nothing of a model, for another code base to load.

    Args:
        path: The file.
        arrays: An array for each key of the code base.

    Raises:
        InputError: The file cannot be written.
    """
    with writing_torch_file(Path(path)) as file:
        file.finish({name: file.add(array) for name, array in arrays.items()})
