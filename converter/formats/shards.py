"""Models that are saved in several files, told by what the files are called.

None of the files says it by its content: each is whole in its own format.
"""

from __future__ import annotations

import re
from pathlib import Path

from efficientdet_spec import Cause, InputError

_SHARD = re.compile(r"(?P<stem>.*)-(?P<place>\d{5})-of-(?P<count>\d{5})(?P<ending>\.\w+)")
"""How transformers and safetensors call one of several files."""

_INDEX = re.compile(r"(?P<stem>.*)(?P<ending>\.\w+)\.index\.json")
"""How they call the list of which tensor is in which."""


def refuse_shard(path: Path) -> None:
    """Refuse a file that is one of several of a model, or the list of these.

    Args:
        path: The file.

    Raises:
        InputError: It is.
    """
    shard, index = _SHARD.fullmatch(path.name), _INDEX.fullmatch(path.name)
    what = ""
    if shard is not None and int(shard["count"]) > 1:
        what = f"is one of the {int(shard['count'])} shards in which a model is saved"
    elif index is not None:
        count = _count_beside(path, index["stem"], index["ending"])
        what = f"lists the {count or 'several'} shards in which a model is saved"
    if what:
        raise InputError(
            f"{path} {what}, and only whole models are read; join them into one file: load them "
            f"in Python and save all tensors with safetensors.torch.save_file, or with "
            f"transformers' save_pretrained and a max_shard_size above the model's size.",
            Cause.FORMAT,
        )


def _count_beside(path: Path, stem: str, ending: str) -> int:
    """How many shards there are of the name that an index has; 0 where none lies beside it."""
    for file in path.parent.glob(f"*{ending}"):
        shard = _SHARD.fullmatch(file.name)
        if shard is not None and (shard["stem"], shard["ending"]) == (stem, ending):
            return int(shard["count"])
    return 0
