"""``models``: every official model and release, with what is known of each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from converter.mappings.official import iterate_pairs
from efficientdet_spec import EfficientDetConfig, get_config, same_variables
from efficientdet_spec.releases import RELEASES, ROOT_URL, TF2, Release
from parity.process.console import say
from parity.process.files import check_writable
from parity.results.place import ResultPlace
from parity.results.proof import published_for
from parity.results.records.models import (
    ApResult,
    ArchiveResult,
    ModelResult,
    ModelsResult,
    PreprocessingResult,
)
from parity.results.records.record import plain
from parity.settings.models import ModelsSettings
from parity.settings.option import PRINTED
from parity.settings.shared import size_text

_STATISTICS = (".running_mean", ".running_var")


def run(settings: ModelsSettings, place: ResultPlace) -> int:
    """Print the list, and write it.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Raises:
        InputError: The result cannot be written.
    """
    if settings.json is not None and settings.json != PRINTED:
        with place.checking():
            check_writable(Path(settings.json))
    found = collect()
    if settings.json == PRINTED:
        say(json.dumps(plain(found), indent=2))
        return 0
    place.write(found)
    say("\n".join(lines(found)))
    return 0


def collect() -> ModelsResult:
    """All that is known, by name."""
    return ModelsResult(
        storage=ROOT_URL, models=[_model(RELEASES[name]) for name in sorted(RELEASES)]
    )


def _model(release: Release) -> ModelResult:
    config = get_config(release.model)
    pairs = list(iterate_pairs(config))
    trained = [pair for pair in pairs if not pair.parameter.endswith(_STATISTICS)]
    return ModelResult(
        name=release.name,
        model=config.name,
        size=config.image_size,
        variables=sum(len(pair.variables) for pair in pairs),
        parameters=sum(math.prod(pair.shape) for pair in trained),
        anchors=_anchors(config),
        anchors_per_place=config.num_anchors,
        anchor_scale=config.anchor_scales,
        levels=list(config.levels),
        classes=config.num_classes,
        backbone=config.backbone_name,
        activation=config.activation.value,
        fusion=config.fusion.value,
        preprocessing=PreprocessingResult(
            mean_rgb=config.mean_rgb,
            stddev_rgb=config.stddev_rgb,
            scale_range=config.scale_range,
        ),
        same_variables=same_variables(config.name),
        proof=published_for(config),
        ap=ApResult(
            source=release.ap_source,
            val=release.ap_val,
            test_dev=release.ap_test_dev,
            unspecified=release.ap_unspecified,
            profile=release.profile,
        ),
        archive=ArchiveResult(
            address=f"{ROOT_URL}/{release.path}",
            container=release.container,
            bytes=release.archive_bytes,
            sha256=release.archive_sha256,
            fingerprint=release.fingerprint,
        ),
    )


def _anchors(config: EfficientDetConfig) -> int:
    sizes = config.feature_sizes(*config.image_size).values()
    return config.num_anchors * sum(height * width for height, width in sizes)


def lines(found: ModelsResult) -> Iterator[str]:
    """The list as text, at most 100 columns wide.

    Args:
        found: What is known.
    """
    yield "Models: what each computes"
    yield ""
    networks = [item for item in found.models if item.model == item.name]
    yield from _table(_NETWORK, [_network(item) for item in networks])
    yield ""
    yield "grey levels  imagenet: less ImageNet's mean, by its deviation; lite: less 127, by 128;"
    yield "             -1 to 1: as of AdvProp"
    yield ""
    yield "Releases: what is known of each, AP in percent"
    yield ""
    yield from _table(_RELEASE, [_release(item) for item in found.models])
    yield ""
    yield f"archive      below {found.storage}/"
    yield "AP other     in a table that does not say on which images"
    yield "known        b: size and SHA-256 of the archive; c: content, by which it is recognised;"
    yield "             p: its network has a published comparison (docs/proof.md);"
    yield "             2: a TensorFlow 2 object checkpoint"


_NETWORK = (
    "model",
    "<input",
    "variables",
    "parameters",
    "anchors",
    "<act",
    "<fusion",
    "<grey levels",
)
_RELEASE = ("release", "AP val", "test-dev", "other", "<archive", "<known")


def _network(item: ModelResult) -> list[str]:
    height, width = item.size
    return [
        item.name,
        size_text((height, width)),
        str(item.variables),
        f"{item.parameters:,}",
        f"{item.anchors:,}",
        item.activation,
        item.fusion,
        _grey_levels(item.preprocessing),
    ]


def _grey_levels(found: PreprocessingResult) -> str:
    if found.scale_range:
        return "-1 to 1"
    return "lite" if tuple(found.stddev_rgb) == (128.0,) * 3 else "imagenet"


def _release(item: ModelResult) -> list[str]:
    known = "".join(
        letter
        for letter, value in (
            ("b", item.archive.sha256),
            ("c", item.archive.fingerprint),
            ("p", item.proof),
            ("2", item.archive.container == TF2),
        )
        if value
    )
    figures = (item.ap.val, item.ap.test_dev, item.ap.unspecified)
    path = item.archive.address.rpartition("/")[0].rpartition("/")[2]
    return [
        item.name,
        *("" if ap is None else f"{100 * ap:.2f}".removesuffix("0") for ap in figures),
        f"{path}/{item.archive.address.rpartition('/')[2]}",
        known,
    ]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns two apart; numbers to the right, the first one and those with ``<`` to the left."""
    heads = [title.removeprefix("<") for title in titles]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [
            cell.ljust(width) if number == 0 or title.startswith("<") else cell.rjust(width)
            for number, (cell, width, title) in enumerate(zip(row, widths, titles, strict=True))
        ]
        yield "  ".join(cells).rstrip()
