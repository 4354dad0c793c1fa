"""Shards computed by processes of this machine: the same bytes, whatever happens to them."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from cluster_sides import Content, call, contents, recipe
from made_images import waves

import compare
from efficientdet_spec import InputError
from parity.detections import computing, worker_process, workers
from parity.detections.messages import WorkerDefect
from parity.detections.shard_files import ShardFolder
from parity.detections.shards import in_process
from parity.detections.workers import local_workers
from parity.settings.coco import CocoSettings

ROOT = Path(__file__).parents[3]
PROGRAM = "cluster_sides"


def here(**values):
    return in_process(lambda: nullcontext(Content(values)))


def process_ids(made):
    return [item._process.pid for item in made.processes if item.lives()]


def gone(pids, seconds=20.0):
    """Whether the processes end in time."""
    deadline = time.monotonic() + seconds
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _lives(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def sockets(pids):
    """The sockets that the processes have open."""
    found = []
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            # The descriptor of the folder itself is closed by now.
            with suppress(FileNotFoundError):
                found += [name for name in [os.readlink(entry)] if name.startswith("socket:")]
    return found


def test_shards_are_those_of_this_process_and_no_socket_is_there(tmp_path, work):
    told, log, before = [], tmp_path / "log", sockets([os.getpid()])
    with local_workers(2, PROGRAM) as made:
        compute = made.compute(recipe(log=str(log)))

        def progress(*amounts):
            told.append(amounts)
            if len(told) > 1:
                assert sockets([os.getpid()]) == before and not sockets(process_ids(made))

        call(tmp_path / "a", compute, work, progress)
        pids = process_ids(made)
        call(tmp_path / "again", compute, work)
        assert process_ids(made) == pids and made.describe() == {"workers": 2}
    call(tmp_path / "b", here(), work)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "again")
    assert len(contents(tmp_path / "a")) == 4 and len(pids) == 2 and gone(pids, 0)
    assert told[0] == (0, 40) and told[-1] == (40, 40) and len(told) == 4
    # Once each, and closed at the end.
    assert sorted(line.split()[0] for line in log.read_text().splitlines()) == (
        ["close"] * 2 + ["open"] * 2
    )


def test_nothing_that_is_printed_gets_among_the_answers(tmp_path, work, capfd):
    with local_workers(1, PROGRAM) as made:
        call(tmp_path / "a", made.compute(recipe(noise=True)), work)
    call(tmp_path / "b", here(), work)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert capfd.readouterr() == ("", "")


def test_a_model_stays_open_until_another_is_wanted(tmp_path, work):
    log = tmp_path / "log"
    with local_workers(1, PROGRAM) as made:
        call(tmp_path / "a", made.compute(recipe(log=str(log))), work)
        call(tmp_path / "b", made.compute(recipe(log=str(log), fatal=300)), work)
        assert [line.split()[0] for line in log.read_text().splitlines()] == [
            "open", "close", "open"
        ]  # fmt: skip


def test_only_what_is_missing_is_sent(tmp_path, work):
    with local_workers(1, PROGRAM) as made:
        told = []
        shards = dict(enumerate(work.parts()))
        found = made.compute(recipe())(work, {1: shards[1]}, told.append)
        assert [number for number, _ in found] == [1] and told == [16]


def test_what_a_worker_cannot_do_names_it(tmp_path, work):
    with local_workers(1, PROGRAM) as made:
        broken = made.compute(recipe(failure="/there/model.index cannot be\x1b[2J read."))
        with pytest.raises(InputError) as caught:
            call(tmp_path / "a", broken, work)
        assert str(caught.value) == r"Worker 1: /there/model.index cannot be\x1b[2J read."
        broken = made.compute(recipe(error="DefaultCPUAllocator: not enough memory"))
        with pytest.raises(InputError, match="Worker 1: memory ran out"):
            call(tmp_path / "b", broken, work)
        broken = made.compute(recipe(error="a fault of the program"))
        with pytest.raises(WorkerDefect, match="^Worker 1: RuntimeError: a fault of the program\n"):
            call(tmp_path / "c", broken, work)
        # It has not ended by any of these.
        call(tmp_path / "d", made.compute(recipe()), work)


def test_other_images_at_the_worker(tmp_path, work, monkeypatch):
    real, path = computing.fingerprints, work.folder / "5.png"
    changes = {"has another content": lambda: path.write_bytes(b"x"), "is no file": path.unlink}
    few = replace(work, images=work.images[:16])
    with local_workers(1, PROGRAM) as made:
        for message, change in changes.items():

            def sent(part, change=change):
                found = real(part)
                change()
                return found

            path.write_bytes(bytes([5]))
            monkeypatch.setattr(workers, "fingerprints", sent)
            with pytest.raises(InputError, match=rf"Worker 1: .*images/5\.png {message}"):
                call(tmp_path / "a", made.compute(recipe()), few)


def test_an_image_that_cannot_be_read_fails_alone(tmp_path, work):
    (work.folder / "5.png").unlink()
    with local_workers(1, PROGRAM) as made:
        shards = call(tmp_path / "a", made.compute(recipe()), work)
    images = [item for shard in shards for item in shard.images]
    assert [item.image_id for item in images if item.failure] == [105]
    assert "5.png" in images[5].failure


def test_a_shard_that_kills_its_workers_is_named(tmp_path, work):
    with local_workers(1, PROGRAM) as made:
        with pytest.raises(
            InputError,
            match=r"Shard 1 \(images 16\.png to 31\.png\).* 4 worker processes died of it, the "
            r"last by SIGKILL, its last words being the last words\\x1b\[2J; give",
        ) as caught:
            call(tmp_path / "a", made.compute(recipe(fatal=20)), work)
        assert str(caught.value).isprintable() and not process_ids(made)
    assert "00000.json" in contents(tmp_path / "a")
    assert call(tmp_path / "a", here(), work)[1].images[4].rows[0, 2] == 20


def test_a_shard_survives_as_many_deaths_as_are_allowed(tmp_path, work):
    """The killed one's shard goes to the next process, and the other goes on."""
    killed = []

    def kill_all(done, total):
        if done and len(killed) < 4:
            for pid in process_ids(made):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    with local_workers(2, PROGRAM) as made:
        call(tmp_path / "a", made.compute(recipe(slow=0.01)), work, kill_all)
    call(tmp_path / "b", here(), work)
    assert len(set(killed)) >= 2 and contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("says", "repeats", "reason"),
    [
        ("Hello\n", 1, "malformed"),
        ('{"answer":"shard","images":[],"seconds":{}}\n', 1, r"its images are \[\]"),
        ("x" * 100_000, 1000, "more than .* bytes"),
    ],
)
def test_what_is_no_answer_names_the_worker(tmp_path, work, monkeypatch, says, repeats, reason):
    monkeypatch.setenv("TEST_WORKER_SAYS", says)
    monkeypatch.setenv("TEST_WORKER_REPEATS", str(repeats))
    with (
        local_workers(1, PROGRAM) as made,
        pytest.raises(InputError, match=rf"^Worker 1 has sent something else .*{reason}"),
    ):
        call(tmp_path / "a", made.compute(recipe()), work)


def test_a_worker_is_shown_its_gpu_alone(tmp_path, work):
    log = tmp_path / "log"
    with local_workers(2, PROGRAM, ["4", "GPU-abc"]) as made:
        call(tmp_path / "a", made.compute(recipe(log=str(log), slow=0.02)), work)
    assert {line.split()[2] for line in log.read_text().splitlines()} == {"4", "GPU-abc"}


def test_workers_import_what_this_process_does_and_nothing_of_the_current_folder(
    tmp_path, work, monkeypatch
):
    """A folder that one happens to be in holds anybody's files."""
    for name in ("importlib", "json", "parity", "numpy", "cluster_sides", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with local_workers(1, PROGRAM) as made:
        call(tmp_path / "a", made.compute(recipe()), work)
    monkeypatch.setattr(sys, "path", ["", "/other"])
    assert worker_process._places() == ["/other", str(ROOT)]


def test_a_killed_command_leaves_no_worker(tmp_path, work):
    """Nobody tells the workers; their pipes end."""
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from pathlib import Path\n"
        "from cluster_sides import recipe\n"
        "from parity.detections.annotations import CocoImage\n"
        "from parity.detections.shards import Work\n"
        "from parity.detections.workers import local_workers\n"
        f"work = Work(Path({str(work.folder)!r}), [CocoImage(n + 100, f'{{n}}.png', 6, 4)"
        " for n in range(40)], 1)\n"
        "with local_workers(2, 'cluster_sides') as made:\n"
        "    compute = made.compute(recipe(slow=0.05))\n"
        "    for _ in compute(work, dict(enumerate(work.parts())), lambda _: None):\n"
        "        print(*(p._process.pid for p in made.processes), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2 and gone(pids)


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


def children():
    """The worker processes of this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(words[1]) == os.getpid() and b"importlib" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


def test_killed_workers_lose_nothing(arguments, tmp_path, monkeypatch, capfd):
    """All workers are killed when the first shard is there, those computing the others included."""
    write, killed = ShardFolder.write, []

    def kill_workers(*shard):
        write(*shard)
        if not killed:
            killed.extend(children())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(ShardFolder, "write", kill_workers)
    out = tmp_path / "workers"
    assert compare.main([*arguments, str(out), "--workers", "2", "--threads", "1"]) == 0
    monkeypatch.undo()
    assert len(killed) == 2 and not children()
    assert compare.main([*arguments, str(tmp_path / "here"), "--threads", "1"]) == 0
    name = "detections_torch.json"
    assert (out / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert (out / name).stat().st_size > 10_000
    shards = [tmp_path / place / "shards" / "torch" for place in ("workers", "here")]
    assert contents(shards[0]) == contents(shards[1])
    manifests = [(folder / "manifest.json").read_bytes() for folder in shards]
    assert manifests[0] == manifests[1]
    assert json.loads((out / "coco.json").read_text())["environment"]["workers"] == 2
    found = json.loads((tmp_path / "here" / "coco.json").read_text())["environment"]
    assert "workers" not in found and "cluster" not in found
    told = capfd.readouterr().err
    assert all(
        any(word in line for word in ("images/s", "s/image", "resampl"))
        for line in told.splitlines()
    ), told


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        ("SIGINT", 130, "interrupted"),
        # The same way out; that a request to stop has its own code is seen in test_interruption.
        pytest.param("SIGTERM", 143, "terminated", marks=pytest.mark.heavy),
    ],
)
def test_a_signal_ends_every_process_without_noise(arguments, tmp_path, number, code, word):
    """A terminal interrupts the whole group of processes."""
    # What runs in the background of a shell ignores interruptions; a terminal's does not.
    script = (
        "import os, signal, sys, compare\n"
        "from parity.detections.shard_files import ShardFolder as s\n"
        "from parity.detections.worker_process import WorkerProcess\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "write, start, made = s.write, WorkerProcess._start, []\n"
        "def started(self):\n"
        "    start(self)\n"
        "    made.append(self._process.pid)\n"
        "def interrupted(*shard):\n"
        "    write(*shard)\n"
        "    print(*made, flush=True)\n"
        f"    os.killpg(0, signal.{number})\n"
        "s.write, WorkerProcess._start = interrupted, started\n"
        "sys.exit(compare.main(sys.argv[1:]))\n"
    )
    path = tmp_path / "interrupted.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path), *arguments, str(tmp_path / "out"), "--workers=2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if "images/s" not in line]
    assert all(word in line or "0 images of" in line for line in lines), done.stderr
    processes = done.stdout.split()
    assert len(processes) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in processes)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_candidate_and_a_file_of_detections(arguments, tmp_path, capfd):
    """The one is found by its path, and prints; the other has nothing to compute."""
    port = tmp_path / "port.py"
    port.write_text("print('imported')\ndef build(faithful):\n    return faithful\n")
    words = [word for word in arguments if word not in ("--framework", "torch", "--out")]
    words += ["--framework", "candidate", "--candidate", f"{port}:build", "--limit", "4", "--out"]
    assert compare.main([*words, str(tmp_path / "here"), "--threads", "1"]) == 0
    options = ["--workers", "1", "--threads", "1"]
    assert compare.main([*words, str(tmp_path / "there"), *options]) == 0
    name = "detections_candidate.json"
    here = (tmp_path / "here" / name).read_bytes()
    assert (tmp_path / "there" / name).read_bytes() == here and len(here) > 10_000
    capfd.readouterr()
    words[words.index("--candidate") : words.index("--limit")] = [
        "--detections", str(tmp_path / "here" / name), "--no-explanation"
    ]  # fmt: skip
    assert compare.main([*words, str(tmp_path / "file"), *options]) == 0, capfd.readouterr().err
    assert (tmp_path / "file" / name).read_bytes() == here


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers is 0; give a number from 1 to"),
        (["--workers", "2000"], "--workers is 2000"),
        (["--workers", "2", "--device", "cuda"], "but PyTorch finds 0 GPUs"),
    ],
)
def test_wrong_options(arguments, tmp_path, capsys, monkeypatch, options, message):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert compare.main([*arguments, str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_dask_is_not_needed():
    settings = CocoSettings(
        checkpoint="x", out="o", images="i", annotations="a", framework="torch", workers=1
    )
    assert "cluster" not in settings.needs()
    code = (
        "import sys, parity.detections.workers, parity.commands.detecting.worker\n"
        "print(*({'distributed', 'dask'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_threads_are_shared_among_workers(monkeypatch):
    from parity.commands.detecting.runner import threads_of

    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    for count, given, threads in ((2, None, 3), (9, None, 1), (2, 5, 5), (None, None, None)):
        settings = CocoSettings(
            checkpoint="x", out="o", images="i", annotations="a", workers=count, threads=given
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
