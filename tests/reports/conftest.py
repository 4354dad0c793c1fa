"""Pages of real comparisons of the tiny model, and a browser to open them with."""

import json
import os
import shutil

import pytest

import compare
from reports.pages.render import render

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BROKEN = """
def broken(model):
    layer = model.get_submodule("fpn.resample_p6.pool")
    make = layer.forward
    layer.forward = lambda x, size: make(x.clamp(min=0), size)
    return model
"""
HOSTILE = '"><img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>'


def run_of(slug, **other):
    """``run.json`` of a comparison of nodes."""
    step = {"name": "nodes", "title": "Compare every node", "command": ["compare.py", "nodes"]}
    done = {"status": "done", "exit_code": 0, "message": "", "seconds": 1.0, "result": "nodes.json"}
    return {
        "schema": "efficientdet-parity/run",
        "version": 2,
        "model": slug,
        "slug": slug,
        "source": slug,
        "trained": True,
        "started": "2026-11-24T00:00:00+00:00",
        "command": "python compare.py report",
        "environment": {"python": "3.11"},
        "code": "0" * 64,
        "complete": True,
        "planned": [],
        "steps": [{**step, **done, "peak_memory_bytes": 10**9}],
        **other,
    }


def write(folder, slug, nodes, **other):
    """A folder of results of one model."""
    (folder / slug).mkdir(parents=True)
    (folder / slug / "nodes.json").write_text(json.dumps(nodes))
    (folder / slug / "run.json").write_text(json.dumps(run_of(slug, **other)))


@pytest.fixture(scope="session")
def pages(tiny_checkpoint, tmp_path_factory):
    """A folder of pages: ``faithful``, ``broken``, ``hostile`` and ``large``."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("pages")
    port = folder / "port.py"
    port.write_text(BROKEN)
    found = {}
    for slug, options in {"faithful": [], "broken": ["--candidate", f"{port}:broken"]}.items():
        path = folder / f"{slug}.json"
        arguments = ["nodes", str(tiny_checkpoint), "--size", "128x128", "--closeups", "3"]
        assert compare.main([*arguments, *options, "--json", str(path)]) == (slug == "broken")
        found[slug] = json.loads(path.read_text())
        write(folder / "results", slug, found[slug])
    text = json.dumps(found["broken"])
    # Wherever a user's own text can come from.
    hostile = json.loads(text.replace("fpn.resample_p6.pool", json.dumps(HOSTILE)[1:-1]))
    hostile["checkpoint"]["source"] = hostile["candidate"] = HOSTILE
    write(folder / "results", "hostile", hostile, source=HOSTILE, command=HOSTILE, note=HOSTILE)
    large = json.loads(json.dumps(found["faithful"]))
    nodes = large["nodes"]
    while len(large["nodes"]) < 2000:
        number = len(large["nodes"]) // len(nodes)
        large["nodes"] = large["nodes"] + [
            {**n, "name": f"{n['name']}.copy{number}"} for n in nodes
        ]
    large["counts"]["exact"] = 2000
    write(folder / "results", "large", large)
    render(folder / "results", folder / "out")
    return folder / "out"


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium without a screen."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on this machine; .ci/run installs it")
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield opened
        opened.close()
