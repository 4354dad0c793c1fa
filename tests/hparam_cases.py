"""Golden figures of the official stages around the network under hyperparameters, and inputs."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from efficientdet_spec import Suppression, get_config

FOLDER = Path(__file__).parent / "golden" / "hparams"


def read(name):
    return json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))


ANCHORS = read("anchors")["cases"]
PREPROCESSING = read("preprocessing")["cases"]
POSTPROCESSING = read("postprocessing")

UNBUILT = ("p5_p5", "below_a_stride")
"""A single level, and an input that is too small: the official anchors know them, but there is no
network for them."""


def _frozen(value):
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def anchor_config(case):
    """D0 with the hyperparameters of anchors that a case has, and (height, width)."""
    own = {name: _frozen(value) for name, value in case["hparams"].items() if name != "image_size"}
    return replace(get_config("d0"), **own), tuple(case["hw"])


def _value(text):
    """A number, a flag, or three numbers joined by ``*``, as a command line has them."""
    if text in ("true", "false"):
        return text == "true"
    if text == "None" or not text:
        return None
    numbers = [float(part) for part in text.split("*")] if text[0].isdigit() else text
    return numbers if isinstance(numbers, str) or len(numbers) > 1 else numbers[0]


def _pairs(text):
    return {key: _value(value) for key, value in (x.split("=") for x in text.split(",") if x)}


def pixel_config(case):
    """D0 with the normalisation of a case."""
    own = _pairs(case["hparams"])
    for name in {"mean_rgb", "stddev_rgb"} & set(own):
        own[name] = tuple(own[name] if isinstance(own[name], list) else [own[name]] * 3)
    return replace(get_config("d0"), **own)


def picture(case):
    """The image of a case, made as those of ``stage_cases`` are."""
    height, width = case["image_hw"]
    y, x = np.mgrid[0:height, 0:width]
    base = 127 + 80 * np.sin(x / 17 + case["image"]) + 40 * np.cos(y / 9)
    noise = np.random.default_rng(case["image"]).normal(0, 25, (height, width, 3))
    return np.clip(base[..., None] + noise, 0, 255).astype(np.uint8)


def same_pixels(pixels, scale, case):
    """Whether an input is the golden one, bit for bit."""
    values = np.array(case["val"], np.float32)
    return (
        (pixels.reshape(-1)[case["idx"]] == values).all()
        and pixels[-1, -1, 0] == np.float32(case["padding"])
        and scale == np.float32(case["image_scale"])
        and pixels.astype(np.float64).mean() == case["mean"]
    )


PATHS = {"global": "interactive", "per_class": "hparams", "numpy": "hparams"}
"""The profile that does what each path of the official code does."""


def suppression(text, path):
    """``nms_configs`` of a case; none of an option has its own name where it is not a number."""
    own = {key.removeprefix("nms_configs."): value for key, value in _pairs(text).items()}
    own["method"] = own.get("method", "gaussian") or "hard"
    for name in {"max_nms_inputs", "max_output_size"} & set(own):
        own[name] = int(own[name])
    return Suppression(**own, pyfunc=path == "numpy")


def suppression_config():
    return get_config("d0").with_classes(POSTPROCESSING["hparams"]["num_classes"])


def outputs():
    """For each level [A_l, 4] logits and [A_l, 4] codes, and (height, width) of the input."""
    size = tuple(POSTPROCESSING["size"])
    config = suppression_config()
    counts = [h * w * 9 for h, w in config.feature_sizes(*size).values()]
    rng = np.random.default_rng(POSTPROCESSING["seed"])
    shape = (1, sum(counts))
    logits = (-3.0 + 1.5 * rng.standard_normal((*shape, config.num_classes))).astype(np.float32)
    codes = (0.3 * rng.standard_normal((*shape, 4))).astype(np.float32)
    cuts = np.cumsum(counts)[:-1]
    return np.split(logits[0], cuts), np.split(codes[0], cuts), size
