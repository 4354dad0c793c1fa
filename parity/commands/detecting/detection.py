"""What finding boxes in images needs on either side."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.conversion import Conversion
from efficientdet_spec import Cause, EfficientDetConfig, InputError, get_config
from efficientdet_spec.forms import EAGER
from parity.commands.asking.options import convert_checkpoint, resolve_checkpoint
from parity.process import environment
from parity.process.files import check_writable, held
from parity.results.place import ResultPlace
from parity.settings.shared import DetectionSettings

if TYPE_CHECKING:
    from torch_model.profiles import Profile
    from torch_model.surroundings import Surroundings


OPTIMISED = "network"
"""What of TensorFlow's detection its graph optimiser rewrites, as results call it.

With the network it is what the official evaluation runs, where nobody switches the optimiser off.
The stages around it stay as the graph says, so that their bits are those of the other side."""


@dataclass(frozen=True)
class Detection:
    """What either framework needs to find boxes in images.

    Attributes:
        conversion: The checkpoint's values.
        prefix: The checkpoint.
        profile: The variant of each stage around the network.
        size: (height, width) of the network's input in pixels.
        weights: Which of the checkpoint's values.
        device: Where the network runs.
        threads: Within one operation.
        batch: Images that go through the network together.
        form: How the converted model computes, one of :data:`efficientdet_spec.forms.FORMS`.
    """

    conversion: Conversion
    prefix: Path
    profile: Profile
    size: tuple[int, int]
    weights: str
    device: str
    threads: int
    batch: int
    form: str = EAGER

    def manifest(self, side: str, packages: Sequence[str]) -> dict[str, Any]:
        """What the detections of a side depend on that is made of this, all but the images.

        Args:
            side: Its name.
            packages: What computes or decodes.
        """
        config, installed = self.conversion.config, environment.describe(None)["packages"]
        own = _own_hyperparameters(config)
        return {
            "framework": side,
            "packages": {name: installed[name] for name in packages},
            "model": config.name,
            "classes": config.num_classes,
            # What the same checkpoint computes, and the stages around it do, depends on these too.
            **({"hyperparameters": own} if own else {}),
            "checkpoint": self.conversion.provenance["checkpoint_fingerprint"],
            "weights": self.weights,
            "profile": self.profile.stages(),
            "size": list(self.size),
            "device": self.device,
            "threads": self.threads,
            "batch": self.batch,
        }

    @property
    def around(self) -> Surroundings:
        """The profile's stages around this model, in plain values."""
        from torch_model.surroundings import Surroundings

        return Surroundings.of(self.conversion.config, self.profile)

    def anchors(self) -> Any:
        """The profile's anchors, [A, 4] as [y1, x1, y2, x2] in pixels of the network's input."""
        from torch_model.anchors import make_anchors

        return make_anchors(self.conversion.config, *self.size, self.around.aspects)

    def longest_anchors(self, sizes: Iterable[tuple[int, int]]) -> list[float]:
        """The longest side of an anchor, in pixels of each image.

        Args:
            sizes: (height, width) of each image.
        """
        anchors = self.anchors()
        longest = float((anchors[:, 2:] - anchors[:, :2]).max())
        # That side of the image by which it is scaled most.
        return [longest * max(h / self.size[0], w / self.size[1]) for h, w in sizes]


def _own_hyperparameters(config: EfficientDetConfig) -> dict[str, Any]:
    """What a model has otherwise than the one of its name, of what detections depend on."""
    known, found = get_config(config.name).to_dict(), config.to_dict()
    # Classes and the size of the input are stated anyway, and names of classes change no box.
    names = {*known, *found} - {"num_classes", "image_size", "label_map"}
    return {name: found.get(name) for name in sorted(names) if known.get(name) != found.get(name)}


class Stopwatch:
    """Seconds of each stage, counted from the end of the one before; for one thread.

    Attributes:
        seconds: So far, by stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What has passed since was this stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


def set_up(settings: DetectionSettings, batch: int, threads: int | None = None) -> Detection:
    """The model and profile that a command asks for.

    Args:
        settings: Of the command.
        batch: Images that go through the network together.
        threads: Within one operation, where it is not what the settings say.

    Raises:
        InputError: The checkpoint, profile or size cannot be used.
    """
    from torch_model.profiles import get_profile, with_stages
    from torch_model.surroundings import Surroundings

    changes = dict(_stage(text) for text in settings.stage)
    profile = with_stages(get_profile(settings.profile), changes)
    files = resolve_checkpoint(settings)
    conversion = convert_checkpoint(settings, files)
    config = conversion.config
    size = settings.size or config.image_size
    config.feature_sizes(*size)
    # Said before anything is computed, where the profile is none for this model.
    Surroundings.of(config, profile)
    environment.prepare(in_turns=False)
    return Detection(
        conversion=conversion,
        prefix=files.prefix,
        profile=profile,
        size=size,
        weights=settings.weights,
        device=settings.device,
        # Stated for both sides, whose defaults may differ.
        threads=threads or settings.threads or os.cpu_count() or 1,
        batch=batch,
        form=settings.form,
    )


def _stage(text: str) -> tuple[str, str]:
    name, separator, variant = text.partition("=")
    if not separator:
        raise InputError(
            f"--stage {text!r} names no variant; write it as in nms=hard.", Cause.OPTION
        )
    return name, variant


@contextmanager
def open_folder(
    folder: Path, names: Sequence[str], keep: Sequence[Path], place: ResultPlace
) -> Iterator[None]:
    """The folder of results, in which each file can be written, and by this run alone.

    Args:
        folder: The folder.
        names: Of the files.
        keep: Files that must stay as they are.
        place: Where the result is to go, which is given up where that is no place for one.

    Raises:
        InputError: The folder cannot be made, another run is writing there, or a file in it is
            one to keep.
    """
    with ExitStack() as stack:
        with place.checking():
            stack.enter_context(held(folder))
            for name in names:
                check_writable(folder / name, keep)
        yield


def notes_on_form(setup: Detection) -> Sequence[str]:
    """A sentence where the converted model does not compute layer by layer."""
    if setup.form == EAGER:
        return ()
    return (f"The converted model computes in the form {setup.form}, not layer by layer.",)


def describe_environment(setup: Detection, with_torch: bool) -> dict[str, Any]:
    """What detections depend on besides their inputs."""
    described = environment.describe(setup.threads, optimised=OPTIMISED) | {
        "device": setup.device,
        "batch": setup.batch,
        "form": setup.form,
    }
    if with_torch:
        from parity.sides.pytorch.device import describe_device, open_device

        described |= describe_device(open_device(setup.device))
    return described
