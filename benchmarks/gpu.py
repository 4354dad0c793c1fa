"""What a GPU can get wrong, and how fast it is: checks and times without TensorFlow or downloads.

Each model's nodes, TF32 and half precision that must be found, recorded tensors, gradients,
detections against the CPU's, and forward times by type and layout. Exit code 0 where every check
has passed, 1 where one has not.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import common
from efficientdet_spec import OFFICIAL_MODELS, TINY, InputError, get_config, parse_size
from efficientdet_spec.forms import EAGER, OPTIMIZED

TRACE = Path(__file__).with_name("tiny_trace.h5")
"""33 nodes of the seeded tiny model at 65x97, as TensorFlow 2.21 computed them on a CPU."""


@dataclass
class Check:
    """Something that must hold.

    Attributes:
        name: What it is.
        expected: What must come of it.
        passes: Whether that has come of it.
        told: What has come of it, in a sentence.
        seconds: Wall time.
        peak_bytes: Most memory of the GPU that tensors took; None on the CPU.
        figures: What else was measured.
    """

    name: str
    expected: str
    passes: bool
    told: str
    seconds: float = 0.0
    peak_bytes: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)


WAYS = (("contiguous_format", EAGER), ("channels_last", EAGER), ("channels_last", OPTIMIZED))
"""Layouts and forms that are measured."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    result.add_argument(
        "models", metavar="MODEL", nargs="*", default=list(OFFICIAL_MODELS), help="default: all"
    )
    result.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default: cuda")
    result.add_argument(
        "--size", type=parse_size, metavar="HxW", help="default: each model's native size"
    )
    result.add_argument("--repeats", type=int, default=10, help="of each time; default: 10")
    result.add_argument("--seconds", type=float, default=480, help="stop after; default: 480")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return result


class Machine:
    """The device, and seeded checkpoints for it.

    Args:
        device: ``cuda`` or ``cpu``.
        folder: Where checkpoints are made.
        size: Of the inputs, in pixels; None for each model's native one.
        smallest: The model for checks that need only one.
    """

    def __init__(
        self, device: str, folder: Path, size: tuple[int, int] | None, smallest: str = "d0"
    ) -> None:
        self.device, self.size, self.smallest = device, size, smallest
        self._folder = folder

    def checkpoint(self, model: str) -> Path:
        """A seeded checkpoint, made once."""
        folder = self._folder / get_config(model).name
        return folder if folder.exists() else common.seed(model, folder)

    def compare(self, model: str, candidate: Any = None, **settings: Any) -> Any:
        """A comparison of nodes with the exact values."""
        import efficientdet_parity

        given = {"reference": "exact", "device": self.device, "contributions": 0, **settings}
        if self.size and "trace" not in str(given["reference"]):
            given.setdefault("size", self.size)
        return efficientdet_parity.compare(candidate, self.checkpoint(model), **given)

    def measured(self, check: Callable[[], Check]) -> Check:
        """A check with its time and memory; what it raises is told."""
        import torch

        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        try:
            found = check()
        except InputError as error:
            found = Check(getattr(check, "keywords", {}).get("name", "?"), "", False, str(error))
        found.seconds = round(time.perf_counter() - started, 3)
        if self.device == "cuda":
            found.peak_bytes = torch.cuda.max_memory_allocated()
        return found


def nodes(machine: Machine, *, name: str) -> Check:
    """Every node of a model on the device."""
    found = machine.compare(name)
    figures = {"nodes": len(found.record.nodes), "phases": dict(found.record.seconds)}
    return Check(name, "parity", found.passes, found.sentence, figures=figures)


def optimised(machine: Machine, *, name: str) -> Check:
    """The form that computes fastest: its folded nodes, and what it returns."""
    found = machine.compare(machine.smallest, form="optimized")
    return Check(name, "parity", found.passes, found.sentence)


def tf32(machine: Machine, *, name: str) -> Check:
    """TF32 switched on must be found and named."""
    found = machine.compare(machine.smallest, tf32=True, size=(256, 256))
    named = [item for item in found.suspects if "TF32" in (item.diagnosis or "")]
    told = named[0].diagnosis if named else found.sentence
    return Check(name, "a difference that is named TF32", bool(named), str(told))


def half(machine: Machine, *, name: str, dtype: str) -> Check:
    """Half precision inside must be found and named."""
    import torch

    import efficientdet_parity

    model = efficientdet_parity.convert(machine.checkpoint(machine.smallest))
    layer = model.get_submodule("fpn.resample_p6.conv")

    def rounded(part: Any, given: Any, made: Any) -> Any:
        return made.to(getattr(torch, dtype)).to(made.dtype)

    layer.register_forward_hook(rounded)
    found = machine.compare(machine.smallest, model, size=(256, 256))
    named = [item for item in found.suspects if dtype in (item.diagnosis or "")]
    told = named[0].diagnosis if named else found.sentence
    return Check(name, f"a difference that is named {dtype}", bool(named), str(told))


def autocast(machine: Machine, *, name: str) -> Check:
    """A model under autocast computes in another type and cannot have parity."""
    import torch

    import efficientdet_parity

    class Cast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = efficientdet_parity.convert(machine.checkpoint(machine.smallest))

        def forward(self, images: Any) -> Any:
            with torch.autocast(machine.device, torch.bfloat16):
                return self.model(images)

    found = machine.compare(machine.smallest, Cast().eval(), size=(256, 256))
    passes = found.outcome.value == "difference" and "bfloat16" in found.text()
    return Check(name, "a difference that is named bfloat16", passes, found.sentence)


def trace(machine: Machine, *, name: str) -> Check:
    """TensorFlow's own tensors, recorded on a CPU."""
    found = machine.compare("tiny", reference=str(TRACE))
    recorded = [node for node in found.record.nodes if node.own is not None]
    failing = [node.name for node in found.record.nodes if node.verdict.fails]
    passes = bool(recorded) and all(node.verdict.passes for node in recorded) and not failing
    told = f"{len(recorded)} recorded nodes, {len(failing)} of all fail"
    return Check(name, "each recorded node within its roundings", passes, told)


def gradients(machine: Machine, *, name: str) -> Check:
    """Gradients of a model on the device against the faithful ones in float64."""
    found = machine.compare(machine.smallest, backward=True, size=(256, 256))
    counts = found.record.gradients.counts if found.record.gradients else {}
    plain = {mode.value: {v.value: n for v, n in c.items() if n} for mode, c in counts.items()}
    return Check(name, "parity", found.passes, found.sentence, figures={"gradients": plain})


def detections(machine: Machine, *, name: str) -> Check:
    """Detections of generated images, on the device and on the CPU."""
    import efficientdet_parity
    from parity.detections.images import photograph_like
    from parity.detections.matching import match
    from parity.detections.rows import as_rows
    from torch_model.detector import Detector

    images = [photograph_like(384, 512, seed) for seed in range(4)]
    sides = {}
    for device in ("cpu", machine.device):
        model = efficientdet_parity.convert(machine.checkpoint(machine.smallest))
        found = Detector(model, device=device).detect(images)
        sides[device] = {
            number: as_rows(item.boxes, item.scores, item.classes)
            for number, item in enumerate(found)
        }
    matched = match(sides["cpu"], sides[machine.device])
    count = sum(len(rows) for rows in sides["cpu"].values())
    told = f"{count} detections of {len(images)} images, {matched.unexplained} unexplained"
    return Check(name, "no unexplained detection", bool(count) and not matched.unexplained, told)


def times(machine: Machine, model: str, repeats: int) -> list[dict[str, Any]]:
    """Forward times by type and layout, taking turns, with the most memory of each."""
    import torch

    import efficientdet_parity

    config = get_config(model)
    height, width = machine.size or config.image_size
    cuda = machine.device == "cuda"
    variants = [("float32", False), ("float32", True)] if cuda else [("float32", False)]
    kinds = [*variants, ("float16", False), ("bfloat16", False)] if cuda else variants
    converted = efficientdet_parity.convert(machine.checkpoint(model)).to(machine.device)
    # Of the values before they are rounded to half precision below.
    optimised = {dtype: converted.optimized(dtype=getattr(torch, dtype)) for dtype, _ in kinds}
    rows = []
    for dtype, allow in kinds:
        for layout, form in WAYS:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow
            kind, layout = getattr(torch, dtype), getattr(torch, layout)
            # A copy has nothing compiled yet, be it with TF32 or without.
            run: Any = copy.deepcopy(optimised[dtype])
            if form == EAGER:
                run = converted.to(kind).to(memory_format=layout)
            images = torch.zeros(1, 3, height, width, device=machine.device, dtype=kind)
            images = images.contiguous(memory_format=layout)
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            seconds = timed(lambda run=run, images=images: run(images), repeats, cuda)
            rows.append(
                {
                    "model": config.name,
                    "size": [height, width],
                    "dtype": "tf32" if allow else dtype,
                    "layout": str(layout).removeprefix("torch."),
                    "form": form,
                    "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
                    **common.summary(seconds),
                }
            )
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return rows


def timed(call: Callable[[], object], repeats: int, cuda: bool) -> list[float]:
    """Seconds of each of some calls after three warm-ups."""
    import torch

    seconds = []
    with torch.inference_mode():
        for turn in range(-3, repeats):
            started = time.perf_counter()
            call()
            if cuda:
                # A GPU computes while Python goes on.
                torch.cuda.synchronize()
            if turn >= 0:
                seconds.append(time.perf_counter() - started)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks, print and write what came of them; returns the exit code."""
    options = parser().parse_args(arguments)
    from parity.sides.pytorch.device import describe_device, open_device

    try:
        device = describe_device(open_device(options.device))
    except InputError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 2
    print(f"device: {device.get('gpu', 'CPU')}", file=sys.stderr)
    started = time.perf_counter()
    checks: list[Check] = []
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        models = in_order(options.models)
        machine = Machine(options.device, Path(folder), options.size, models[0])
        for check in planned(models, options.device):
            name = check.keywords["name"]
            if time.perf_counter() - started > options.seconds:
                skipped.append(name)
                continue
            found = machine.measured(partial(check, machine))
            checks.append(found)
            print(f"{'passes' if found.passes else 'FAILS '} {name}: {found.told}", flush=True)
        for model in models:
            if time.perf_counter() - started > options.seconds:
                skipped.append(f"times of {model}")
                continue
            rows += times(machine, model, options.repeats)
    print(times_table(rows))
    for name in skipped:
        print(f"not run, for lack of time: {name}")
    values = {
        "device": device,
        "checks": [asdict(check) for check in checks],
        "times": rows,
        "not_run": skipped,
    }
    common.write(options.json, "gpu", values, None)
    return 0 if checks and all(check.passes for check in checks) and not skipped else 1


def in_order(models: Sequence[str]) -> list[str]:
    """Models with the smallest first."""
    known = [TINY.name, *OFFICIAL_MODELS]
    return sorted(models, key=lambda name: known.index(get_config(name).name))


def planned(models: Sequence[str], device: str) -> list[partial[Check]]:
    """All checks, those that need one model first."""
    found = [
        partial(trace, name="recorded tensors"),
        partial(optimised, name="the optimised form"),
        partial(half, name="float16 in one layer", dtype="float16"),
        partial(half, name="bfloat16 in one layer", dtype="bfloat16"),
        partial(autocast, name="autocast to bfloat16"),
        partial(detections, name="detections"),
        partial(gradients, name="gradients"),
    ]
    # A CPU has no TF32.
    switched = [partial(tf32, name="TF32 switched on")] if device == "cuda" else []
    return [*switched, *found, *(partial(nodes, name=name) for name in models)]


def times_table(rows: Sequence[dict[str, Any]]) -> str:
    """Times and memory as text."""
    head = ["forward", "type", "layout", "form", "least ms", "median ms", "memory MB"]
    lines = [
        [
            f"{row['model']} {row['size'][0]}x{row['size'][1]}",
            row["dtype"],
            row["layout"],
            row["form"],
            f"{1e3 * row['min_seconds']:.1f}",
            f"{1e3 * row['median_seconds']:.1f}",
            "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}",
        ]
        for row in rows
    ]
    return common.table([head, *lines])


if __name__ == "__main__":
    raise SystemExit(main())
