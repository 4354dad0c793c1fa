"""Shards computed by a Dask cluster: the same bytes, whatever happens to its processes."""

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from cluster_sides import Opener
from made_images import waves

import compare
from efficientdet_spec import InputError
from parity.detections.annotations import CocoImage
from parity.detections.shards import Work, in_process, run

distributed = pytest.importorskip("distributed")
from parity.detections import cluster as clusters  # noqa: E402
from parity.settings.coco import CocoSettings  # noqa: E402

ROOT = Path(__file__).parents[3]
MANIFEST = {"framework": "none"}
IN_THREADS = {
    "processes": False,
    "protocol": "tcp",
    "dashboard_address": "127.0.0.1:0",
    "silence_logs": logging.CRITICAL,
}


def worker_processes():
    return [item for item in multiprocessing.active_children() if "Dask" in item.name]


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.png").write_bytes(bytes([number]))
    return Work(folder, [CocoImage(n + 100, f"{n}.png", 6, 4) for n in range(40)], 1)


@pytest.fixture
def opener(tmp_path):
    return Opener(str(tmp_path / "log"))


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler with one worker, both in threads of this process."""
    with distributed.LocalCluster(n_workers=1, threads_per_worker=4, **IN_THREADS) as made:
        yield made.scheduler_address


@pytest.fixture
def connected(scheduler):
    with clusters.existing_cluster(scheduler, gpu=False) as cluster:
        yield cluster


def contents(folder):
    """What the shards say, without the time they took."""
    return {
        path.name: json.loads(path.read_text()).get("images") for path in sorted(folder.iterdir())
    }


def call(folder, compute, work, progress=lambda *_: None):
    return run(folder, MANIFEST, work, compute, progress)


# With a scheduler and a worker in this process


def test_shards_are_those_of_this_process(tmp_path, connected, work, opener):
    told = []
    call(tmp_path / "a", connected.compute(opener), work, lambda *amounts: told.append(amounts))
    call(tmp_path / "b", in_process(opener), work)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 4
    assert told[0] == (0, 40) and told[-1] == (40, 40) and len(told) == 4


def test_within_a_running_loop_as_a_notebook_has(tmp_path, scheduler, work, opener):
    async def cell():
        with clusters.existing_cluster(scheduler, gpu=False) as cluster:
            return call(tmp_path / "a", cluster.compute(opener), work)

    shards = asyncio.run(cell())
    assert sum(len(shard.images) for shard in shards) == 40


def test_a_model_stays_open_until_another_is_wanted(tmp_path, scheduler, work, opener):
    other = replace(opener, fatal=300)
    log = Path(opener.log)
    with clusters.existing_cluster(scheduler, gpu=False) as cluster:
        call(tmp_path / "a", cluster.compute(opener), work)
        call(tmp_path / "b", cluster.compute(opener), work)
        assert [line.split()[0] for line in log.read_text().splitlines()] == ["open"]
        call(tmp_path / "c", cluster.compute(other), work)
    deadline = time.monotonic() + 20
    while len(lines := log.read_text().splitlines()) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [line.split()[0] for line in lines] == ["open", "close"] * 2


def test_only_what_is_missing_is_sent(tmp_path, connected, work, opener):
    call(tmp_path / "a", connected.compute(opener), work)
    (tmp_path / "a" / "00001.json").unlink()
    told = []
    broken = replace(opener, failure="not asked for")
    shards = dict(enumerate(work.parts()))
    found = connected.compute(opener)(work, {1: shards[1]}, told.append)
    assert [number for number, _ in found] == [1] and told == [16]
    with pytest.raises(InputError, match="not asked for"):
        call(tmp_path / "a", connected.compute(broken), work)


def test_what_a_worker_cannot_do_names_it(tmp_path, connected, work, opener):
    broken = replace(opener, failure="/there/model.index cannot be read.")
    with pytest.raises(InputError, match=r"Worker tcp://.*: /there/model\.index cannot be read"):
        call(tmp_path / "a", connected.compute(broken), work)
    broken = replace(opener, error="DefaultCPUAllocator: not enough memory")
    with pytest.raises(InputError, match=r"Worker tcp://.*: memory ran out"):
        call(tmp_path / "b", connected.compute(broken), work)
    broken = replace(opener, error="a fault of the program")
    with pytest.raises(RuntimeError, match="a fault of the program"):
        call(tmp_path / "c", connected.compute(broken), work)


def test_other_images_at_the_worker(tmp_path, connected, work, opener, monkeypatch):
    from parity.detections import cluster_worker

    real, path = cluster_worker.fingerprints, work.folder / "5.png"
    changes = {"has another content": lambda: path.write_bytes(b"x"), "is no file": path.unlink}
    for message, change in changes.items():

        def sent(part, change=change):
            found = real(part)
            change()
            return found

        path.write_bytes(bytes([5]))
        monkeypatch.setattr(cluster_worker, "fingerprints", sent)
        with pytest.raises(InputError, match=rf"Worker tcp://.*images/5\.png {message}"):
            call(tmp_path / "a", connected.compute(opener), replace(work, images=work.images[:16]))


def test_an_image_that_no_machine_has_fails_alone(tmp_path, connected, work, opener):
    (work.folder / "5.png").unlink()
    images = [
        item for shard in call(tmp_path / "a", connected.compute(opener), work)
        for item in shard.images
    ]  # fmt: skip
    assert [item.image_id for item in images if item.failure] == [105]
    assert "5.png" in images[5].failure


def test_workers_without_this_package(tmp_path, scheduler, work, opener, monkeypatch):
    def refused(*_):
        raise Exception("ModuleNotFoundError(\"No module named 'parity'\")")

    with monkeypatch.context() as changed:
        changed.setattr(distributed.Client, "register_plugin", refused)
        with (
            pytest.raises(InputError, match="No module named 'parity'.*install the same version"),
            clusters.existing_cluster(scheduler, gpu=False),
        ):
            pass

    def unreadable(_):
        raise RuntimeError("Error during deserialization of the task graph.")

    monkeypatch.setattr(distributed.Future, "result", unreadable)
    with (
        clusters.existing_cluster(scheduler, gpu=False) as cluster,
        pytest.raises(InputError, match="cannot load what is sent to it .*install the same"),
    ):
        call(tmp_path / "a", cluster.compute(opener), work)


def test_workers_without_a_gpu(scheduler):
    with (
        pytest.raises(InputError, match=r"declares a GPU.*--resources \"GPU=1\""),
        clusters.existing_cluster(scheduler, gpu=True),
    ):
        pass


def test_the_gpu_is_asked_for(tmp_path, work, opener):
    with distributed.LocalCluster(n_workers=1, resources={"GPU": 1}, **IN_THREADS) as made:
        with clusters.existing_cluster(made.scheduler_address, gpu=True) as cluster:
            asked = []
            submit = cluster._client.submit

            def watched(*arguments, **named):
                asked.append(named["resources"])
                return submit(*arguments, **named)

            cluster._client.submit = watched
            assert len(call(tmp_path / "a", cluster.compute(opener), work)) == 3
        assert asked == [{"GPU": 1}] * 3


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 1.0)
    with (
        distributed.LocalCluster(n_workers=0, **IN_THREADS) as made,
        pytest.raises(InputError, match="has no workers; start some with dask worker"),
        clusters.existing_cluster(made.scheduler_address, gpu=False),
    ):
        pass


def test_the_last_worker_leaves(tmp_path, work, opener, monkeypatch):
    monkeypatch.setattr(clusters, "WORKERS_TIMEOUT", 0.5)
    monkeypatch.setattr(clusters, "_LOOK_INTERVAL", 0.2)
    with distributed.LocalCluster(
        n_workers=1, **IN_THREADS
    ) as made, clusters.existing_cluster(made.scheduler_address, gpu=False) as cluster:  # fmt: skip

        def leave(done, total):
            if done == 16:
                made.scale(0)

        with pytest.raises(InputError, match="No worker is left"):
            call(tmp_path / "a", cluster.compute(opener), work, leave)
    assert "00000.json" in contents(tmp_path / "a")


# Addresses


@pytest.mark.parametrize("address", ["nonsense://x", "not an address", "", "tls://127.0.0.1:1"])
def test_addresses_that_are_none(address):
    with (
        pytest.raises(InputError, match="No Dask scheduler answers at"),
        clusters.existing_cluster(address, gpu=False),
    ):
        pass


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        closed = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        for listens in (False, True):
            if listens:
                silent.listen()
            with (
                pytest.raises(InputError, match=closed),
                clusters.existing_cluster(closed, gpu=False),
            ):
                pass


# The command line


@pytest.fixture
def arguments(tiny_checkpoint, tmp_path):
    """Arguments for three shards of images; the folder of results is missing."""
    folder = tmp_path / "images"
    folder.mkdir()
    entries = []
    for number in range(1, 41):
        cv2.imwrite(str(folder / f"{number}.png"), waves(24, 40, seed=number))
        entry = {"id": number, "file_name": f"{number}.png", "width": 40, "height": 24}
        entries.append(entry)
    categories = [{"id": number, "name": str(number)} for number in range(1, 4)]
    boxes = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    ]
    values = {"images": entries, "annotations": boxes, "categories": categories}
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(values))
    fixed = ["coco", tiny_checkpoint, "--images", folder, "--annotations", path]
    return [*map(str, fixed), "--framework", "torch", "--out"]


def test_killed_workers_lose_nothing(arguments, tmp_path, monkeypatch, capfd):
    """All workers are killed when the first shard is there, those computing the others included."""
    import parity.detections.shards

    write, killed = parity.detections.shards.write_shard, []

    def kill_workers(path, shard):
        write(path, shard)
        if not killed:
            for process in worker_processes():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
                killed.append(process.pid)

    monkeypatch.setattr(parity.detections.shards, "write_shard", kill_workers)
    out = tmp_path / "cluster"
    assert compare.main([*arguments, str(out), "--workers", "2", "--threads", "1"]) == 0
    monkeypatch.undo()
    assert len(set(killed)) == 2 and not worker_processes()
    assert compare.main([*arguments, str(tmp_path / "here"), "--threads", "1"]) == 0
    name = "detections_torch.json"
    assert (out / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert (out / name).stat().st_size > 10_000
    shards = [tmp_path / place / "shards" / "torch" for place in ("cluster", "here")]
    assert contents(shards[0]) == contents(shards[1])
    manifests = [(folder / "manifest.json").read_bytes() for folder in shards]
    assert manifests[0] == manifests[1]
    found = json.loads((out / "coco.json").read_text())["environment"]["cluster"]
    assert found["scheduler"] == "local" and found["workers"] == 2
    assert found["distributed"] == distributed.__version__
    assert "cluster" not in json.loads((tmp_path / "here" / "coco.json").read_text())["environment"]
    told = capfd.readouterr().err
    assert all("images/s" in line or "resampl" in line for line in told.splitlines()), told


def test_a_shard_that_kills_its_workers_is_named(tmp_path, work, opener, monkeypatch):
    monkeypatch.setattr(clusters, "ALLOWED_FAILURES", 1)
    fatal = replace(opener, fatal=20)
    with (
        clusters.local_cluster(1) as cluster,
        pytest.raises(
            InputError, match=r"Shard 1 \(images 16\.png to 31\.png\).*2 worker processes"
        ),
    ):
        call(tmp_path / "a", cluster.compute(fatal), work)
    assert "00000.json" in contents(tmp_path / "a") and not worker_processes()
    assert call(tmp_path / "a", in_process(opener), work)[1].images[4].rows[0, 2] == 20


def test_ctrl_c_ends_every_process_without_noise(arguments, tmp_path):
    """A terminal interrupts the whole group of processes."""
    # What runs in the background of a shell ignores interruptions; a terminal's does not.
    command = [sys.executable, "-u", "compare.py", *arguments, str(tmp_path / "out"), "--workers=2"]
    script = (
        "import os, signal, sys, compare, parity.detections.shards as s, multiprocessing as m\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "write = s.write_shard\n"
        "def interrupted(path, shard):\n"
        "    write(path, shard)\n"
        "    print(*(p.pid for p in m.active_children()), flush=True)\n"
        "    os.killpg(0, signal.SIGINT)\n"
        "s.write_shard = interrupted\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(compare.main(sys.argv[1:]))\n"
    )
    path = tmp_path / "interrupted.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path), *command[3:]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert done.returncode == 130, done.stderr
    lines = [line for line in done.stderr.splitlines() if "images/s" not in line]
    assert all("interrupted" in line or "0 images of" in line for line in lines), done.stderr
    processes = done.stdout.split()
    assert len(processes) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in processes)
    assert not list((tmp_path / "out").rglob("*.tmp"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers is 0; give a number from 1 to"),
        (["--workers", "2000"], "--workers is 2000"),
        (["--scheduler", "nonsense://x"], "No Dask scheduler answers"),
        (["--workers", "2", "--device", "cuda"], "but PyTorch finds 0 GPUs"),
    ],
)
def test_wrong_options(arguments, tmp_path, capsys, monkeypatch, options, message):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert compare.main([*arguments, str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_one_of_both_places(arguments, tmp_path, capsys):
    words = [*arguments, str(tmp_path), "--workers", "1", "--scheduler", "tcp://x:1"]
    assert compare.main(words) == 2
    assert "--workers and --scheduler are both given" in capsys.readouterr().err


def test_without_dask(arguments, tmp_path, capsys, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "distributed" else find(name)
    )
    assert compare.main([*arguments, str(tmp_path / "out"), "--workers", "1"]) == 2
    assert "needs distributed, which is not installed; run pip" in capsys.readouterr().err


def test_threads_are_shared_among_workers(monkeypatch):
    from parity.commands.detecting.runner import threads_of

    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    for workers, given, threads in ((2, None, 3), (9, None, 1), (2, 5, 5), (None, None, None)):
        settings = CocoSettings(
            checkpoint="x",
            out="o",
            images="i",
            annotations="a",
            workers=workers,
            threads=given,
        )
        assert threads_of(settings) == threads


def test_each_worker_has_a_gpu_of_its_own(monkeypatch):
    import torch

    from parity.commands.detecting.runner import _gpus

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _gpus(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-abc,6")
    assert _gpus(2) == ["4", "GPU-abc"]


def test_a_worker_is_shown_its_gpu_alone():
    with clusters.local_cluster(2, ["4", "GPU-abc"]) as cluster:
        workers = cluster._client.scheduler_info()["workers"]
        shown = cluster._client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(shown.values()) == ["4", "GPU-abc"]
    assert [worker["resources"] for worker in workers.values()] == [{"GPU": 1}] * 2


# What is shipped


@pytest.fixture
def recipe(tiny_checkpoint, tiny_conversion):
    from parity.commands.detecting.detection import Detection
    from parity.commands.detecting.detectors import detecting
    from parity.commands.detecting.runner import Recipe
    from torch_model.profiles import get_profile

    setup = Detection(
        tiny_conversion, tiny_checkpoint / "model", get_profile("official"), (64, 64), "ema",
        "cpu", 1, 1,
    )  # fmt: skip
    return Recipe.of(setup, detecting("torch"))


def test_a_recipe_is_small_and_sets_the_same_up(recipe, work):
    import pickle

    sent = pickle.dumps(recipe)
    assert len(sent) < 4000 and pickle.loads(sent) == recipe
    with pickle.loads(sent)() as side:
        cv2.imwrite(str(work.folder / "0.png"), waves(24, 40))
        ((boxes, scores, classes),) = side.detect([side.prepare(work.folder / "0.png")])
    assert boxes.shape == (100, 4) and len(scores) == len(classes) == 100


def test_a_recipe_holds_a_candidate_by_name(recipe, tiny_conversion, work, tmp_path, monkeypatch):
    """What a worker finds under the name must be what was found here."""
    import pickle

    from parity.commands.detecting.candidate_detection import CandidateDetecting
    from parity.commands.detecting.detection import Detection
    from parity.commands.detecting.runner import Recipe

    setup = Detection(conversion=tiny_conversion, **recipe.settings)
    setup = replace(setup, size=(128, 128))
    port = tmp_path / "port.py"
    port.write_text("def build(faithful):\n    return faithful\n")
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(Recipe.of(setup, CandidateDetecting.named("port.py:build")))
    monkeypatch.chdir("/")
    cv2.imwrite(str(work.folder / "0.png"), waves(24, 40))
    with pickle.loads(sent)() as side:
        ((boxes, _, _),) = side.detect([side.prepare(work.folder / "0.png")])
    assert boxes.shape == (100, 4)
    port.write_text("def build(faithful):\n    return faithful.eval()\n")
    with (
        pytest.raises(InputError, match="candidate is .*, not"),
        pickle.loads(sent)(),
    ):
        pass


def test_another_checkpoint_or_version_is_refused(recipe, rewrite):
    def change(tensors):
        tensors[sorted(tensors)[0]][...] += 1

    settings = {**recipe.settings, "prefix": rewrite(change) / "model"}
    with (
        pytest.raises(InputError, match=r"changed/model .*checkpoint is \w+, not"),
        replace(recipe, settings=settings)(),
    ):
        pass
    manifest = {**recipe.manifest, "version of framework": "1.0"}
    with (
        pytest.raises(InputError, match=r"version of framework is .*, not 1\.0"),
        replace(recipe, manifest=manifest)(),
    ):
        pass
    settings = {**recipe.settings, "prefix": Path("/nowhere/model")}
    with (
        pytest.raises(InputError, match="/nowhere/model"),
        replace(recipe, settings=settings)(),
    ):
        pass
