r"""What published ports do differently, measured: ``docs/published-ports.md``.

Each port is compared node by node, its network is evaluated between official pre- and
postprocessing, and its whole pipeline is explained. Nothing is fetched: effdet has to be
importable, checkouts of others are named.

    python -m benchmarks.published_ports CHECKPOINT --images val2017 \
        --annotations instances_val2017.json --effdet --zylo117 CHECKOUT --signatrix CHECKOUT
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from parity.process.files import write_text

_PORTS = Path(__file__).parent / "published"
_MANY = 6
"""Statements on a structure beyond which single nodes are not listed as well."""

_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass
class Port:
    """A published port.

    Attributes:
        title: Its name and version.
        file: The module of ``benchmarks/published`` that runs it.
        environment: What that needs to know.
        detects: Whether it has a pipeline.
        results: What the commands wrote, by command.
    """

    title: str
    file: str
    environment: Mapping[str, str] = field(default_factory=dict)
    detects: bool = True
    results: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def function(self, name: str) -> str:
        """A function of it, as options take it."""
        return f"{(_PORTS / self.file).relative_to(ROOT)}:{name}"


def main() -> int:
    """Run every comparison and write the page."""
    arguments = _arguments()
    ports = _ports(arguments)
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    converted = work / "model.pth"
    if not (arguments.keep and converted.is_file()):
        _python(["convert.py", str(arguments.checkpoint), str(converted)], {})
    for port in ports:
        environment = {**port.environment, "CHECKPOINT_PTH": str(converted.absolute())}
        _measure(port, arguments, work / Path(port.file).stem, environment)
    write_text(arguments.out, page(ports))
    print(f"wrote {arguments.out}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="folder of COCO images")
    parser.add_argument("--annotations", type=Path, required=True, help="of these images")
    parser.add_argument("--effdet", action="store_true", help="the package that is installed")
    parser.add_argument("--zylo117", type=Path, help="a checkout")
    parser.add_argument("--signatrix", type=Path, help="a checkout")
    parser.add_argument("--limit", type=int, help="so many images only")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each command")
    parser.add_argument("--keep", action="store_true", help="use results that are in --work")
    parser.add_argument("--work", type=Path, default=Path("out/published-ports"))
    parser.add_argument("--out", type=Path, default=Path("docs/published-ports.md"))
    return parser.parse_args()


def _ports(arguments: argparse.Namespace) -> list[Port]:
    ports = []
    if arguments.effdet:
        from importlib.metadata import version

        name = f"rwightman/efficientdet-pytorch (effdet {version('effdet')})"
        ports.append(Port(name, "rwightman.py"))
    if arguments.zylo117:
        where = {"ZYLO117": str(arguments.zylo117.absolute())}
        name = f"zylo117/Yet-Another-EfficientDet-Pytorch{_revision(arguments.zylo117)}"
        ports.append(Port(name, "zylo117.py", where))
    if arguments.signatrix:
        where = {"SIGNATRIX": str(arguments.signatrix.absolute())}
        name = f"signatrix/efficientdet{_revision(arguments.signatrix)}"
        ports.append(Port(name, "signatrix.py", where, detects=False))
    return ports


def _revision(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return f" ({done.stdout.strip()})" if done.returncode == 0 else ""


def _measure(
    port: Port, arguments: argparse.Namespace, work: Path, environment: Mapping[str, str]
) -> None:
    """Run the commands about a port; what they wrote is kept with it."""
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, network = str(arguments.checkpoint), ["--candidate", port.function("build")]
    image = sorted(arguments.images.glob("*.jpg"))[0]
    result = work / "nodes.json"
    threads = ["--threads", str(arguments.threads)]
    nodes = ["compare.py", "nodes", checkpoint, *network, *threads, "--image", str(image)]
    if not (arguments.keep and result.is_file()):
        _python([*nodes, "--json", str(result)], environment)
    port.results["nodes"] = json.loads(result.read_text("utf-8"))
    if not port.detects:
        return
    coco = ["compare.py", "coco", checkpoint, "--images", str(arguments.images)]
    coco += ["--annotations", str(arguments.annotations)]
    coco += [*threads, *(["--limit", str(arguments.limit)] if arguments.limit else [])]
    for name, side in (
        ("network", network),
        ("pipeline", ["--detections", port.function("detect")]),
    ):
        folder = work / name
        if not (arguments.keep and (folder / "coco.json").is_file()):
            _python([*coco, *side, "--out", str(folder)], environment)
        port.results[name] = json.loads((folder / "coco.json").read_text("utf-8"))


def _python(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run one of this repository's scripts; a difference that it finds is what is looked for."""
    print("$ python", *command, flush=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    around = {**os.environ, **environment, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=around)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(done.returncode)


def page(ports: Sequence[Port]) -> str:
    """The page, in Markdown.

    Args:
        ports: With their results.
    """
    parts = [
        "# What published ports do differently",
        "Written by `python -m benchmarks.published_ports`, which says at its head how to run it. "
        "The ports' own code is run where its users have put it; none of it is in this repository. "
        "All of them have the same checkpoint's values, so that what differs is what they compute.",
        *(_account(port) for port in ports),
    ]
    return "\n\n".join(parts) + "\n"


def _account(port: Port) -> str:
    parts = [f"## {port.title}", _network(port.results["nodes"])]
    if port.detects:
        parts.append(_metrics(port.results["network"], port.results["pipeline"]))
        parts.append(_explanation(port.results["pipeline"]["explanation"]))
    return "\n\n".join(parts)


def _network(nodes: Mapping[str, Any]) -> str:
    images = "x".join(str(nodes["inputs"][0][side]) for side in ("height", "width"))
    lines = [f"**The network**, on one photograph at {images}: {nodes['sentence']}."]
    structures = [item["text"] for item in nodes["structures"]]
    # Where the structure is another one, what single nodes read follows from that.
    suspects = [] if len(structures) > _MANY else nodes["suspects"]
    for diagnosis in dict.fromkeys(item["diagnosis"] for item in suspects if item["diagnosis"]):
        places = [
            name for item in suspects if item["diagnosis"] == diagnosis for name in item["nodes"]
        ]
        more = f" and {len(places) - 2} more" if len(places) > 2 else ""
        lines.append(f"- {diagnosis}: {', '.join(f'`{name}`' for name in places[:2])}{more}")
    # Where somebody keeps a checkout is nobody else's business.
    lines += ["- " + re.sub(r"(?<= )/\S*/(?=[\w.]+:)", "", text) for text in structures]
    return "\n".join([lines[0], "", *lines[1:]]) if lines[1:] else lines[0]


def _metrics(network: Mapping[str, Any], pipeline: Mapping[str, Any]) -> str:
    images = network["images"]["candidate"]["all"]
    rows = (
        ("the reference, TensorFlow", network["metrics"]["tensorflow"]),
        ("its network between official stages", network["metrics"]["candidate"]),
        ("its whole pipeline", pipeline["metrics"]["candidate"]),
    )
    lines = [
        f"**COCO metrics** on {images} images:",
        "",
        f"| | {' | '.join(_METRICS)} |",
        f"|---|{'---:|' * len(_METRICS)}",
    ]
    for title, metrics in rows:
        lines.append(f"| {title} | {' | '.join(f'{metrics[m]:.6f}' for m in _METRICS)} |")
    return "\n".join(lines)


def _explanation(found: Mapping[str, Any]) -> str:
    """The mistakes that make the official pipeline's boxes the port's."""
    lines = [
        f"**The pipeline**: {found['equal_without']} of {found['counted_boxes']} of its boxes on "
        f"{found['counted_images']} images are the reference's as they are. With",
        "",
        "| in addition | boxes equal |",
        "|---|---:|",
    ]
    for step in found["steps"]:
        titles = [step["mistake"]["title"], *(other["title"] for other in step["alternatives"])]
        lines.append(f"| {', or '.join(titles)} | {step['equal']} |")
    left = found["unexplained"]
    lines += [
        "",
        f"Of all {found['boxes']} boxes on {found['images']} images {left or 'none'} "
        f"{'are' if left != 1 else 'is'} left unexplained; the pipeline with these mistakes has "
        f"{found['extra'] or 'no'} box{'es' if found['extra'] != 1 else ''} that the port has not.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
