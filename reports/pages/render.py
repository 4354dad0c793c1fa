"""Writes the pages: from results on disk to a folder that a browser opens."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from efficientdet_spec import Cause, InputError, printable_lines, replacing
from parity.process.files import check_writable, make_folder, write_text
from parity.results.records.record import ResultFile, write
from reports.pages.page import model_page
from reports.reading.results import ModelResults, read_results
from reports.tables.all_models import COLUMNS, matrix, overview
from reports.tables.junit import junit
from reports.tables.markdown import markdown
from reports.tables.node_csv import node_csv
from reports.tables.summary import Summary, summarise

_STATIC = Path(__file__).parents[1] / "static"
_ASSETS = {
    "report.css": "report.css",
    "theme.js": "theme.js",
    "payload.js": "payload.js",
    "report.js": "report.js",
    "charts.js": "charts.js",
    "echarts.min.js": "vendor/echarts.min.js",
    "LICENSE.echarts.txt": "vendor/LICENSE",
    "NOTICE.echarts.txt": "vendor/NOTICE",
}
"""Of each file beside the pages, where it comes from."""

_COPIES = "assets"
"""The folder beside the pages for copies of these files."""


_WITHIN = re.compile(r"(?<=[\w>;])([._/])(?=\w)")
"""Where a name may be broken."""


@dataclass(frozen=True)
class _Output:
    """A file to be written.

    Attributes:
        path: Where.
        content: A text, a result, or the file to copy.
    """

    path: Path
    content: str | ResultFile | Path


def render(results_dir: Path, out: Path, *, data: bool = True) -> Summary:
    """Make the pages of all results.

    They need files such as the style sheet, which are copied beside them. Pages that are written
    into this package, as ``make reports`` does, refer to the package's own files instead.

    Everything is made before the first file is written, and the index is written last: what it
    leads to is there.

    Args:
        results_dir: Holds a folder for each model.
        out: For the pages; made if need be.
        data: Also copy the result files, write a CSV file of all nodes and show pictures.

    Returns:
        The figures of all models.

    Raises:
        InputError: A result cannot be read or is something else, or a file cannot be written.
    """
    models = read_results(results_dir)
    summary = Summary([summarise(item) for item in models])
    outputs = _outputs(models, summary, out, data)
    for folder in dict.fromkeys(output.path.parent for output in outputs):
        make_folder(folder, below=out)
    for output in outputs:
        _write(output)
    return summary


def _outputs(
    models: Sequence[ModelResults], summary: Summary, out: Path, data: bool
) -> list[_Output]:
    addresses = _addresses(out)
    environment = _environment(addresses)
    found = _assets(out, addresses)
    for results, row in zip(models, summary.rows, strict=True):
        page = model_page(results, row, data=data)
        text = environment.get_template("model.html.j2").render(page=page)
        if data:
            found += _data(results, out / results.slug)
        found.append(_Output(out / f"{results.slug}.html", text))
    index = environment.get_template("index.html.j2").render(
        columns=COLUMNS, rows=matrix(summary), overview=overview(summary)
    )
    return [
        *found,
        _Output(out / "report.json", summary.result()),
        _Output(out / "index.md", markdown(summary)),
        _Output(out / "junit.xml", junit(models)),
        _Output(out / "index.html", index),
    ]


def _assets(out: Path, addresses: Mapping[str, str]) -> list[_Output]:
    """The copies that pages need beside them, of files that they do not find elsewhere."""
    return [
        _Output(out / address, _STATIC / _ASSETS[name])
        for name, address in addresses.items()
        if address.startswith(f"{_COPIES}/")
    ]


def _addresses(out: Path) -> dict[str, str]:
    """Where pages in a folder find each of the files that they need, relative to the folder."""
    if out.resolve().parent == _STATIC.parent.resolve():
        return {name: f"../{_STATIC.name}/{file}" for name, file in _ASSETS.items()}
    return {name: f"{_COPIES}/{name}" for name in _ASSETS}


def render_alone(template: str, page: object, path: Path, result: ResultFile) -> None:
    """Make a page that has no charts and belongs to no run, and its result file beside it.

    Args:
        template: The template's file.
        page: What it shows, which the template calls ``page``.
        path: Where the page goes; the result file is called alike and ends in ``.json``.
        result: What the page was made of.

    Raises:
        InputError: A file cannot be written.
    """
    addresses = {name: f"{_COPIES}/{name}" for name in ("report.css", "theme.js")}
    text = _environment(addresses).get_template(template).render(page=page)
    outputs = [
        *_assets(path.parent, addresses),
        _Output(path.with_suffix(".json"), result),
        _Output(path, text),
    ]
    make_folder(path.parent)
    make_folder(path.parent / _COPIES, below=path.parent)
    for output in outputs:
        _write(output)


def _data(results: ModelResults, folder: Path) -> list[_Output]:
    found = [
        _Output(folder / name.rpartition("/")[2], results.folder / name) for name in results.files()
    ]
    if results.nodes:
        found.append(_Output(folder / "nodes.csv", node_csv(results.nodes)))
    pictures = [
        _Output(folder / name, results.folder / "detect" / name) for name in results.pictures()
    ]
    return found + pictures


def _environment(addresses: Mapping[str, str]) -> jinja2.Environment:
    """What makes pages of templates.

    Args:
        addresses: Of the files that pages need, relative to the pages.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["packed"] = packed
    environment.filters["breakable"] = breakable
    environment.globals["static"] = addresses
    return environment


def _shown(value: Any) -> Any:
    """What stands for a value on a page, of which no character turns what is around it."""
    return printable_lines(value) if type(value) is str else value


def breakable(name: str) -> Markup:
    """A name that is broken behind a dot, an underscore or a slash within it, if it must be.

    Args:
        name: Any text.
    """
    return Markup(_WITHIN.sub(r"\1<wbr>", str(escape(printable_lines(name)))))


def packed(values: Any) -> str:
    """Values as base64 of compressed JSON, which ``payload.js`` unpacks.

    Nothing in it can be mistaken for markup.

    Args:
        values: Plain values without NaN or infinity.
    """
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")


def _write(output: _Output) -> None:
    content = output.content
    if isinstance(content, Path):
        _copy(content, output.path)
    elif isinstance(content, str):
        # A lone surrogate, which JSON can hold and UTF-8 cannot, must not end it all.
        write_text(output.path, content.encode("utf-8", "replace").decode("utf-8"))
    else:
        write(output.path, content)


def _copy(source: Path, target: Path) -> None:
    """Copy a file; the copy appears complete or not at all."""
    if target.exists() and source.samefile(target):
        return
    check_writable(target)
    try:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise InputError(
            f"{source} cannot be copied to {target} ({error.strerror}); choose an --out that is "
            f"writable and has room.",
            Cause.of(error),
        ) from error
