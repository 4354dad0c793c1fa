"""Safetensors files: models of this project, and state dicts of others."""

from __future__ import annotations

from pathlib import Path

from converter.formats.own import OwnSource, written_rows
from converter.formats.registry import Format
from converter.formats.shards import refuse_shard
from converter.formats.source import StoredEntry, TensorSource, dtype_name
from converter.formats.state_dict import state_dict_source
from converter.formats.target import Values, Written
from efficientdet_spec import file_sha256
from torch_model.model_file import (
    RAW_PREFIX,
    SAFETENSORS,
    SafetensorsModel,
    is_own,
    save_as_safetensors,
)
from torch_model.safetensors import BFLOAT16, DTYPES, SafetensorsFile, is_safetensors

NAME = "safetensors"
SAYS = "a safetensors file"


def find(path: Path) -> Path | None:
    """The file, where it begins as the format has it.

    Raises:
        InputError: It is one of several of a model.
    """
    if not is_safetensors(path):
        return None
    refuse_shard(path)
    return path


def open_source(path: Path) -> TensorSource:
    """Open a file as a source.

    Raises:
        InputError: It cannot be read, is damaged, or holds no model in names that are known.
    """
    file = SafetensorsFile(path)
    if is_own(file):
        return OwnSource(SafetensorsModel(file), NAME, "a safetensors file of this project")
    return state_dict_source(
        path=path,
        format_name=NAME,
        says=SAYS,
        groups={"": _entries(file)},
        read=lambda _, key: file.read(key),
        digests={"file_sha256": file_sha256(path)},
    )


def _entries(file: SafetensorsFile) -> dict[str, StoredEntry]:
    return {
        name: StoredEntry(
            name,
            "DT_BFLOAT16" if item.type == BFLOAT16 else dtype_name(DTYPES[item.type]),
            item.shape,
            item.size,
        )
        for name, item in file.tensors.items()
    }


def write(path: Path, values: Values) -> Written:
    """Write a model as a file of this project, with raw values where there are such."""
    save_as_safetensors(path, values.config, values.arrays, values.provenance, values.raw)
    return Written((path,), written_rows(values, RAW_PREFIX))


FORMATS = (
    Format(
        name=NAME,
        says=SAYS,
        find=find,
        open=open_source,
        write=write,
        suffixes=(SAFETENSORS,),
        holds_both=True,
    ),
)
