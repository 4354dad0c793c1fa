"""The file ``config.yaml`` beside a checkpoint."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from converter.hparams.given import Hyperparameters
from efficientdet_spec import TINY, EfficientDetConfig, InputError
from fuzzing.damage.raw import RAW, splice
from fuzzing.target import Target

_SOUND = b"""\
act_type: relu6
anchor_scale: [1, 2, 3, 4.5, 5]
aspect_ratios: [[1.4, 0.7], [1.0, 1.0]]
backbone_config: {blocks: [r1_k3_s11_e1_i8_o8, r1_k3_s22_e1_i8_o8, r1_k5_s22_e2_i8_o16,
  r1_k3_s22_e2_i16_o24, {num_repeat: 1, kernel_size: 5, strides: [2, 2], expand_ratio: 2,
  input_filters: 24, output_filters: 32, se_ratio: 0.25, id_skip: true}]}
conv_after_downsample: true
fpn_config:
  nodes:
  - {feat_level: 6, inputs_offsets: [3, 4]}
  - {feat_level: 5, inputs_offsets: [2, 5]}
  - {feat_level: 4, inputs_offsets: [1, 6]}
  - {feat_level: 3, inputs_offsets: [0, 7]}
  - {feat_level: 7, inputs_offsets: [4, 5]}
  weight_method: attn
image_size: !!python/tuple [96, 160]
label_map: {1: cat, 2: 'dog'}
learning_rate: 0.08
mean_rgb: &mean [123.675, 116.28, 103.53]
name: efficientdet-tiny
nms_configs: {iou_thresh: null, method: gaussian, pyfunc: false, sigma: 0.3}
num_classes: 7
stddev_rgb: *mean
survival_prob: 0.8
"""

_WORDS = (
    b"!!python/object/apply:os.system [ls]",
    b"!!python/name:os.system",
    b"!!python/tuple",
    b"!!binary x",
    b"&a [*a]",
    b"*mean",
    b"<<: *mean",
    b"{",
    b"[" * 400,
    b"'",
    b"%YAML 3.0",
    b"---",
    b"null",
    b".nan",
    b"-.inf",
    b"1e999",
    b"9" * 5000,
    b"0x" + b"f" * 5000,
    b"1:2:3:4",
    b"2020-01-01",
    b"\xc2\x85",
    b"\x1b[2J",
    b"../../etc/passwd.yaml",
    b"/dev/zero.yaml",
    b"x" * 3000,
    b"yes",
)


def _word(rng: Random, data: bytes) -> bytes:
    """A value, a whole line or what stands in one place becomes an odd word."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    word = rng.choice(_WORDS)
    key, separator, _ = lines[place].partition(b": ")
    lines[place] = rng.choice((word, key + separator + word, lines[place] + word))
    return b"\n".join(lines)


class Reader(Target):
    """The model of a checkpoint with such a file beside it."""

    WHAT = "hyperparameters in `config.yaml` (`Hyperparameters.of`, applied)"
    CHECKSUMS = False
    EXAMPLES = 20_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self.files = {"config.yaml": _SOUND}
        self.damages = {
            "config.yaml": {**RAW, "splice": splice(_SOUND), "word": _word, "word-2": _word}
        }
        folder = material / "hparams"
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_bytes(_SOUND)
        self._sound = self.read(folder, frozenset())

    def read(self, folder: Path, changed: frozenset[str]) -> tuple[EfficientDetConfig, str]:
        given = Hyperparameters.of(folder / "model")
        config = given.applied(given.base() or TINY)
        given.record(config)
        return config, given.sentence(config)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def promise(self, value: Any) -> str | None:
        config, sentence = value
        if not sentence.isprintable() or len(sentence) > 4000:
            return "a sentence that is no printable line"
        try:
            again = EfficientDetConfig.from_dict(config.to_dict())
        except InputError as error:
            return f"a configuration that cannot be read again: {error}"
        return None if again == config else "a configuration that is another when read again"
