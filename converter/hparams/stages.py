"""A backbone's stages as the official ``BlockArgs``, and as the texts that stand for them.

Source: google/automl ``efficientdet/backbone/efficientnet_builder.py`` (``BlockDecoder``) and
``efficientnet_model.py`` (``BlockArgs``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from efficientdet_spec import Cause, InputError
from efficientdet_spec.backbones import StageSpec

_FIELDS = (
    "kernel_size",
    "num_repeat",
    "input_filters",
    "output_filters",
    "expand_ratio",
    "id_skip",
    "strides",
    "se_ratio",
)
_UNSUPPORTED = ("conv_type", "fused_conv", "super_pixel", "condconv")
_LETTERS: Mapping[str, str] = {
    "r": "num_repeat",
    "k": "kernel_size",
    "s": "strides",
    "e": "expand_ratio",
    "i": "input_filters",
    "o": "output_filters",
    "se": "se_ratio",
    "c": "conv_type",
    "f": "fused_conv",
    "p": "super_pixel",
}
_HALVING = 4
"""Stages of stride 2 behind the stem: levels above the fifth are made outside of the backbone."""

_PART = re.compile(r"(se|[rkseiocfp])([0-9]{1,6}(?:\.[0-9]{1,12})?)")


def read_stages(value: Any) -> tuple[StageSpec, ...] | None:
    """The stages of ``backbone_config``; None: the backbone's own.

    Args:
        value: ``{blocks: [...]}``, each block a mapping of ``BlockArgs`` or a text such as
            ``r1_k3_s11_e1_i32_o16_se0.25``.

    Raises:
        InputError: It is something else, or a block of a kind that is not supported.
    """
    if value is None:
        return None
    blocks = value.get("blocks") if isinstance(value, Mapping) and len(value) == 1 else None
    if not isinstance(blocks, list | tuple) or not 1 <= len(blocks) <= 64:
        raise _wrong(f"is {value!r:.80}; give blocks: 1 to 64 of them")
    stages = tuple(_stage(index, block) for index, block in enumerate(blocks))
    halving = sum(stage.stride == 2 for stage in stages)
    if halving != _HALVING:
        raise _wrong(
            f"has {halving} stages of stride 2; give {_HALVING}, since the detector takes the "
            f"backbone's features of the levels 1 to 5"
        )
    return stages


def _stage(index: int, block: Any) -> StageSpec:
    fields = _decoded(index, block) if isinstance(block, str) else block
    if not isinstance(fields, Mapping):
        raise _wrong(
            f"has block {index} as {block!r:.80}; give a mapping of BlockArgs, or a text such as "
            f"r1_k3_s11_e1_i32_o16_se0.25"
        )
    unknown = [name for name in fields if name not in (*_FIELDS, *_UNSUPPORTED)]
    if unknown:
        raise _wrong(f"has block {index} with {unknown[0]!r:.40}; give {', '.join(_FIELDS)}")
    for name in _UNSUPPORTED:
        if fields.get(name):
            raise _wrong(
                f"has block {index} with {name} {fields[name]!r:.40}, which is not supported: no "
                f"official figures show what it computes; leave it out"
            )
    missing = [name for name in _FIELDS[:5] if name not in fields]
    if missing or "strides" not in fields:
        raise _wrong(f"has block {index} without {(missing or ['strides'])[0]}; give it")
    strides = fields["strides"]
    square = isinstance(strides, list | tuple) and len(strides) == 2 and strides[0] == strides[1]
    if not square:
        raise _wrong(f"has block {index} with strides {strides!r:.40}; give two equal numbers")
    skip = fields.get("id_skip", True)
    return StageSpec(
        repeats=fields["num_repeat"],
        kernel=fields["kernel_size"],
        stride=strides[0],
        expansion=fields["expand_ratio"],
        input_channels=fields["input_filters"],
        output_channels=fields["output_filters"],
        # As officially, 0 means none.
        squeeze_ratio=fields.get("se_ratio") or None,
        has_skip=True if skip is None else skip,
    )


def _decoded(index: int, text: str) -> dict[str, Any]:
    """The fields of a block's text."""
    fields: dict[str, Any] = {"id_skip": True}
    for part in text.split("_"):
        if part == "noskip":
            fields["id_skip"] = False
            continue
        if part == "cc":
            fields["condconv"] = True
            continue
        match = _PART.fullmatch(part)
        name = _LETTERS[match[1]] if match else ""
        if match is None or name in fields or ("." in match[2] and name != "se_ratio"):
            raise _wrong(
                f"has block {index} as {text!r:.80}, of which {part!r:.40} is not understood; "
                f"write it as in r1_k3_s11_e1_i32_o16_se0.25"
            )
        if name == "strides":
            fields[name] = [int(digit) for digit in match[2]]
        else:
            fields[name] = float(match[2]) if name == "se_ratio" else int(match[2])
    return fields


def _wrong(found: str) -> InputError:
    return InputError(f"backbone_config {found}.", Cause.OPTION)
