"""How large an error may be and still pass, and what it does to boxes and scores.

The worst that a comparison of nodes lets through: every node of the model at once carries an error
of its whole limit in every element, of constant sign in each channel, the sign along the gradient
of what is to be moved. Roundings never conspire like that; a fault that did would be missed.
"""

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from parity.judge.limits import SIDE_LIMIT, chance_factor, limit_of
from parity.sides.pytorch.operations import expected, feature_maps, operation_of
from torch_model.anchors import make_anchors
from torch_model.postprocess import decode_boxes, sigmoid, split_outputs

TOP = 100
"""Detections that are looked at, as many as an evaluation keeps."""


@dataclass(frozen=True)
class Sharpness:
    """What the largest error that passes does.

    Attributes:
        errors: Roundings of every element of every node, in words.
        aim: What the errors' signs are chosen to move.
        pixels: Largest move of an edge of the best boxes, in pixels of the input.
        score: Largest change of their scores.
        relative: Largest move of an edge relative to its box's longer side.
    """

    errors: str
    aim: str
    pixels: float
    score: float
    relative: float


def measure(bench) -> list[Sharpness]:
    """What the largest errors that pass do to the best boxes of one image.

    Args:
        bench: A model with its image.
    """
    plain = _Predictions.of(bench, _run(bench, {}))
    rows = []
    for aim in ("scores", "edges"):
        signs = _signs(bench, plain, aim)
        for errors, whole in ((f"{SIDE_LIMIT}", False), ("the limit", True)):
            moved = plain.again(bench, _run(bench, signs, whole=whole))
            shift = np.abs(moved.boxes - plain.boxes)
            sides = np.maximum(
                plain.boxes[:, 2] - plain.boxes[:, 0], plain.boxes[:, 3] - plain.boxes[:, 1]
            )
            rows.append(
                Sharpness(
                    errors=errors,
                    aim=aim,
                    pixels=float(shift.max()),
                    score=float(np.abs(moved.scores - plain.scores).max()),
                    relative=float((shift.max(1) / sides).max()),
                )
            )
    return rows


@dataclass(frozen=True)
class _Predictions:
    """The best predictions of one image."""

    anchors: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, bench, outputs):
        (predicted,) = split_outputs(*outputs, bench.config.num_classes)
        logits = np.concatenate(list(predicted.classes))
        flat = np.argsort(-logits, axis=None, kind="stable")[:TOP]
        anchors, classes = np.unravel_index(flat, logits.shape)
        return cls._at(bench, predicted, logits, anchors, classes)

    def again(self, bench, outputs):
        """The same anchors and classes in other outputs."""
        (predicted,) = split_outputs(*outputs, bench.config.num_classes)
        logits = np.concatenate(list(predicted.classes))
        return self._at(bench, predicted, logits, self.anchors, self.classes)

    @classmethod
    def _at(cls, bench, predicted, logits, anchors, classes):
        everywhere = make_anchors(bench.config, *bench.images.shape[1:3])
        boxes = decode_boxes(predicted.box_codes[anchors], everywhere[anchors])
        return cls(anchors, classes, boxes, sigmoid(logits[anchors, classes]))


def _signs(bench, plain, aim) -> Mapping[str, torch.Tensor]:
    """For each node the sign, by channel, in which an error moves the aim most."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name, module, inputs, output):
        output.retain_grad()
        outputs[name] = output
        return output

    with _hooked(bench, keep), torch.enable_grad():
        images = torch.from_numpy(bench.images).permute(0, 3, 1, 2).requires_grad_()
        class_outputs, box_outputs = bench.faithful(images)
        count = bench.config.num_classes
        logits = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, count) for x in class_outputs])
        codes = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, 4) for x in box_outputs])
        anchors = torch.from_numpy(plain.anchors)
        if aim == "scores":
            logits[anchors, torch.from_numpy(plain.classes)].sigmoid().sum().backward()
        else:
            # Each edge moves by the code times the size of its anchor.
            sides = make_anchors(bench.config, *bench.images.shape[1:3])[plain.anchors]
            sizes = torch.from_numpy((sides[:, 2:] - sides[:, :2]).copy())
            (codes[anchors].view(-1, 2, 2).sum(1) * sizes).sum().backward()
    return {
        name: output.grad.sum((0, 2, 3), keepdim=True).sign()
        for name, output in outputs.items()
        if output.grad is not None
    }


def _run(bench, signs, *, whole=False):
    """The model's outputs where every node carries an error."""
    factor = chance_factor(2 * bench.referee.elements)
    unit = 2.0**-24

    def disturb(name, module, inputs, output):
        if name not in signs:
            return output
        kind = bench.referee.kinds[name]
        terms = operation_of(kind, module, inputs).terms(feature_maps(inputs))
        limit = limit_of(kind, terms, factor=factor, truth_is_wider=True)
        allowed = limit.candidate if whole else min(SIDE_LIMIT, limit.candidate)
        _, scale = expected(kind, module, inputs)
        return output + signs[name] * (allowed * unit) * scale

    with _hooked(bench, disturb), torch.no_grad():
        return bench.faithful(torch.from_numpy(bench.images).permute(0, 3, 1, 2))


@contextmanager
def _hooked(bench, visit):
    """Call ``visit`` at each node; what it returns goes on."""
    from parity.sides.pytorch import visiting

    with visiting(bench.faithful, bench.naming, visit):
        yield


def table(rows) -> str:
    """The published table, in Markdown.

    Args:
        rows: Pairs of a label and what was measured.
    """
    lines = ["| model, image | roundings of every element | signs along | edges | scores |"]
    lines += ["|---|---|---|---|---|"]
    for label, row in rows:
        edges = f"{row.pixels:.3f} px ({row.relative:.1e} of the box)"
        lines.append(f"| {label} | {row.errors} | {row.aim} | {edges} | {row.score:.1e} |")
    return "\n".join(lines)
