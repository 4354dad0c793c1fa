"""What classes are called: by the model's label map, or by COCO for models of 90 classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUM_CLASSES = 90

_NAMES = """
1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat,
10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat,
18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe, 27 backpack,
28 umbrella, 31 handbag, 32 tie, 33 suitcase, 34 frisbee, 35 skis, 36 snowboard, 37 sports ball,
38 kite, 39 baseball bat, 40 baseball glove, 41 skateboard, 42 surfboard, 43 tennis racket,
44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl, 52 banana, 53 apple,
54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake, 62 chair,
63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet, 72 tv, 73 laptop, 74 mouse,
75 remote, 76 keyboard, 77 cell phone, 78 microwave, 79 oven, 80 toaster, 81 sink,
82 refrigerator, 84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier,
90 toothbrush
"""


_VOC = """
1 aeroplane, 2 bicycle, 3 bird, 4 boat, 5 bottle, 6 bus, 7 car, 8 cat, 9 chair, 10 cow,
11 diningtable, 12 dog, 13 horse, 14 motorbike, 15 person, 16 pottedplant, 17 sheep, 18 sofa,
19 train, 20 tvmonitor
"""

_WAYMO = "1 vehicle, 2 pedestrian, 3 cyclist"


def _read(text: str) -> dict[int, str]:
    pairs = (entry.strip().partition(" ") for entry in text.split(","))
    return {int(number): name for number, _, name in pairs}


LABEL_MAPS: Mapping[str, Mapping[int, str]] = {
    "coco": _read(_NAMES),
    "voc": _read(_VOC),
    "waymo": _read(_WAYMO),
}
"""Name by class id of the data sets that the official hyperparameter ``label_map`` knows by a
name (official ``tf2/label_util.py``); a class id is the class index + 1."""


def label_map(value: str | Mapping[int, str] | None) -> Mapping[int, str] | None:
    """The names of classes that a model states.

    Args:
        value: As of the hyperparameter: names by class id, or what the official code calls them.
    """
    return LABEL_MAPS.get(value) if isinstance(value, str) else value or None


def category_names(num_classes: int) -> Mapping[int, str]:
    """Name by category id; empty for a model of other classes than COCO's."""
    return LABEL_MAPS["coco"] if num_classes == _NUM_CLASSES else {}


def stated_names(config: Any) -> Mapping[int, str] | None:
    """Name by class id where the model itself says what its classes are; else None.

    Args:
        config: Of the model; its ``label_map``, where it has one, is the official hyperparameter.
    """
    return label_map(getattr(config, "label_map", None))


def class_names(config: Any) -> Mapping[int, str]:
    """Name by class id: what the model states, else COCO's of a model with as many classes.

    Args:
        config: Of the model.
    """
    return stated_names(config) or category_names(config.num_classes)
