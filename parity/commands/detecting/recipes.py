"""A side's detection as another process can set it up for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from converter.hparams.given import Hyperparameters
from efficientdet_spec import EfficientDetConfig, InputError, listed
from parity.commands.detecting.brought_detection import FunctionDetecting
from parity.commands.detecting.candidate_detection import CandidateDetecting
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.detectors import Detecting, detecting
from parity.detections.messages import Recipe, SideName, plain
from parity.detections.shards import Side
from parity.process import environment


def recipe_of(setup: Detection, side: Detecting, name: SideName) -> Recipe:
    """The recipe for what has been set up here.

    Args:
        setup: The model and the stages around it.
        side: What detects.
        name: By which another process finds it.
    """
    config = setup.conversion.config
    return Recipe(
        # Another process may have a current folder of its own.
        prefix=str(setup.prefix.absolute()),
        config=config.to_dict(),
        weights=setup.weights,
        strip_prefix=setup.conversion.ledger.stripped,
        profile=setup.profile.to_dict(),
        size=setup.size,
        device=setup.device,
        threads=setup.threads,
        batch=setup.batch,
        form=setup.form,
        side=name,
        manifest=plain(side.manifest(setup)),
    )


@contextmanager
def opened(recipe: Recipe) -> Iterator[Side]:
    """What a recipe is of, set up in this process.

    Raises:
        InputError: The checkpoint cannot be read here, or the detections would depend on something
            else than those of the process that sent the recipe.
    """
    environment.prepare(in_turns=False)
    setup = _set_up(recipe)
    side = _named(recipe.side)
    here = plain(side.manifest(setup))
    differing = [
        f"{name} is {here.get(name)!s:.40}, not {wanted!s:.40}"
        for name, wanted in recipe.manifest.items()
        if here.get(name) != wanted
    ]
    if differing:
        raise InputError(
            f"{setup.prefix} would be detected with otherwise than by the machine of this command: "
            f"{listed(differing, 4, 120)}; let every machine have the same files and versions."
        )
    with side.open(setup) as found:
        yield found


def _set_up(recipe: Recipe) -> Detection:
    from torch_model.profiles import Profile

    prefix = Path(recipe.prefix)
    conversion = convert(
        CheckpointFiles(prefix, str(prefix), None, strip=recipe.strip_prefix),
        weights=recipe.weights,
        hyperparameters=Hyperparameters.exactly(EfficientDetConfig.from_dict(recipe.config)),
    )
    return Detection(
        conversion=conversion,
        prefix=prefix,
        profile=Profile(**recipe.profile),
        size=recipe.size,
        weights=recipe.weights,
        device=recipe.device,
        threads=recipe.threads,
        batch=recipe.batch,
        form=recipe.form,
    )


def _named(name: SideName) -> Detecting:
    if name.kind in ("candidate", "function"):
        if name.text is None:
            raise InputError(f"a side of kind {name.kind} was sent without a name of its code.")
        if name.kind == "function":
            return FunctionDetecting(name.text)
        return CandidateDetecting.named(name.text, Path(name.names) if name.names else None)
    return detecting(name.kind)
