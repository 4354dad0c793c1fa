"""``report`` by official names: downloads, goes on where it was interrupted, judges the AP.

The server is here, and so are the archives: seeded weights in the official layout. Downloads and
conversions are those of real processes; what compares networks is replaced, for it takes minutes.
"""

import io
import json
import re
import signal
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import made_results as made
import numpy as np
import pytest

from converter.mappings.official import iterate_pairs
from converter.seeded import write_seeded
from efficientdet_spec import get_config
from parity.coco.published import Measured, against_published
from parity.results.reading import read
from parity.results.records.conversion import ConversionResult
from parity.results.records.record import plain
from parity.results.records.run import RunResult
from parity.results.records.shared import Checkpoint, Weights
from parity.settings.report import ReportSettings
from reports.pages.render import render
from reports.run import processes, runner
from reports.run.steps import subjects

NAMES = ("efficientdet-d2", "efficientdet-d4", "efficientdet-d3")
"""The server has no D4, so that one without a checkpoint stands between two that have theirs."""


def statistics(config, parameters):
    """All parameters, with batch norms that change nothing."""
    found = dict(parameters)
    for pair in iterate_pairs(config):
        if pair.parameter not in found:
            ((_, shape),) = pair.variable_shapes.items()
            found[pair.parameter] = np.ones(shape, np.float32)
    return found


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """By name of the file, an archive as Google's storage has it."""
    folder = tmp_path_factory.mktemp("archives")
    found = {}
    for model in ("efficientdet-d2", "efficientdet-d3"):
        write_seeded(get_config(model), folder / model, "seed", statistics)
        (folder / model / "checkpoint").write_text('model_checkpoint_path: "model"\n')
        packed = io.BytesIO()
        # Random weights cannot be made smaller.
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=0) as archive:
            archive.add(folder / model, arcname=model)
        found[f"{model}.tar.gz"] = packed.getvalue()
    return found


class Handler(BaseHTTPRequestHandler):
    """Serves archives, whole or from some byte on; stops half way when it is told to."""

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.server.requests.append((name, start))
        content = self.server.archives.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if name == self.server.stops_at:
            self.server.stops_at = None
            self.wfile.write(content[start : len(content) // 2])
            self.server.half_way()
            self.server.release.wait(60)
        else:
            self.wfile.write(content[start:])

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    """The storage.

    Attributes:
        requests: Name and first byte of whatever was asked for.
        stops_at: The file that is sent by half, once.
        half_way: Called then.
        release: Ends the connection that was left open.
    """

    daemon_threads = True

    def __init__(self, archives):
        super().__init__(("127.0.0.1", 0), Handler)
        self.archives, self.requests, self.stops_at = archives, [], None
        self.half_way, self.release = lambda: None, threading.Event()

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def storage(archives, monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    server = Server(archives)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/coco2"
    monkeypatch.setenv("EFFICIENTDET_DOWNLOADS", address)
    monkeypatch.setenv("EFFICIENTDET_CACHE", str(tmp_path / "cache"))
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


def run(command):
    """A command: conversions of what was downloaded are real, everything else is made up."""
    if command[0] == "convert.py" and command[1] in NAMES:
        return processes.run(command)
    if command[1] == "seed":
        written, values = Path(command[3]) / "checkpoint", {}
    elif command[0] == "convert.py":
        written, values = Path(command[command.index("--json") + 1]), made.conversion()
        Path(command[2]).touch()
    elif command[1] == "coco":
        written = Path(command[command.index("--out") + 1]) / "coco.json"
        values = coco(command[2], written.parents[1])
    else:
        written, values = Path(command[command.index("--json") + 1]), made.nodes()
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(json.dumps(values))
    return processes.Finished(0, 1.0, 10**9, "", "", [])


def coco(model, folder):
    """An evaluation on all of val2017: D2 has the published AP, D3 has not."""
    provenance = read(folder / "conversion.json", ConversionResult).provenance
    checkpoint = Checkpoint(provenance.source, provenance.checkpoint_fingerprint, Weights.EMA)
    ap = {"efficientdet-d2": 0.4351, "efficientdet-d3": 0.4}[model]
    measured = Measured(
        ap=ap,
        images=5000,
        true_boxes=36335,
        profile="official",
        native_size=True,
        checkpoint=checkpoint,
    )
    return made.coco(model=model, published=plain(against_published(model, measured)))


def report(tmp_path):
    annotations = tmp_path / "instances.json"
    annotations.touch()
    choice = ReportSettings(
        sources=("efficientdet-d0",),
        out=tmp_path / "out",
        images=tmp_path,
        annotations=annotations,
        pictures=0,
    )
    runner.run_all(subjects(NAMES), choice, tmp_path / "results", "the command", run)
    return render(tmp_path / "results", tmp_path / "out")


def test_one_command_downloads_resumes_and_judges(storage, tmp_path):
    """Interrupted half way through the first download, and then given again."""

    def interrupt():
        for _ in range(600):
            # What was sent has reached the disk.
            if sum(path.stat().st_size for path in tmp_path.rglob("*.part")) > 2**20:
                break
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    storage.stops_at, storage.half_way = "efficientdet-d2.tar.gz", interrupt
    with pytest.raises(KeyboardInterrupt):
        report(tmp_path)
    storage.release.set()
    assert storage.requests == [("efficientdet-d2.tar.gz", 0)]
    (part,) = tmp_path.rglob("*.part")
    had = part.stat().st_size
    assert 2**20 < had <= len(storage.archives["efficientdet-d2.tar.gz"]) // 2
    first = read(tmp_path / "results" / "efficientdet-d2" / "run.json", RunResult)
    assert not first.complete and not first.steps and first.trained

    text = report(tmp_path).text
    assert storage.requests[1:] == [
        ("efficientdet-d2.tar.gz", had),
        ("efficientdet-d4.tar.gz", 0),
        ("efficientdet-d3.tar.gz", 0),
    ]
    assert not list(tmp_path.rglob("*.part"))
    runs = {name: read(tmp_path / "results" / name / "run.json", RunResult) for name in NAMES}
    assert [item.trained for item in runs.values()] == [True, False, True]
    assert all(item.complete for item in runs.values())
    # What the server lacks is said, and the others go on.
    assert "efficientdet-d4.tar.gz does not exist (status 404)" in runs["efficientdet-d4"].note
    for name in ("efficientdet-d2", "efficientdet-d3"):
        converted = read(tmp_path / "results" / name / "conversion.json", ConversionResult)
        assert converted.model == name and converted.provenance.source.endswith(f"{name}.tar.gz")

    assert "AP 0.43510 agrees: " in text and "AP 0.40000 differs: " in text
    assert "assumed: that http://127.0.0.1" in text
    pages = [(tmp_path / "out" / f"{name}.html").read_text("utf-8") for name in NAMES]
    assert "AP 0.43510 agrees" in pages[0] and "AP 0.40000 differs" in pages[2]
    assert "agrees: " not in pages[1] and "status 404" in pages[1]

    # A third time there is nothing left to download but what was missing.
    report(tmp_path)
    assert storage.requests[4:] == [("efficientdet-d4.tar.gz", 0)]
