"""Shards computed by a Dask cluster: the same bytes, and only members take part."""

import asyncio
import gc
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cluster_sides
import pytest
from cluster_sides import Content, call, contents, recipe
from made_certificates import Authority

import compare
from efficientdet_spec import InputError
from parity.detections.certificates import Certificates
from parity.detections.messages import WorkerDefect
from parity.detections.shards import in_process

distributed = pytest.importorskip("distributed")
import dask  # noqa: E402

from parity.detections import cluster as clusters  # noqa: E402
from parity.detections import cluster_worker, computing  # noqa: E402

IN_THREADS = {
    "processes": False,
    "dashboard_address": "127.0.0.1:0",
    "silence_logs": logging.CRITICAL,
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "a")


@pytest.fixture(scope="module")
def member(authority):
    return authority.member("member")


@pytest.fixture(scope="module")
def certificates(member):
    return Certificates.checked(member.ca, member.cert, member.key)


@pytest.fixture(scope="module")
def made_cluster(certificates):
    """Starts clusters whose scheduler and workers are threads of this process."""

    def make(**options):
        return distributed.LocalCluster(
            **{"protocol": "tls", "security": certificates.security(), **IN_THREADS, **options}
        )

    return make


@pytest.fixture(scope="module")
def scheduler(made_cluster):
    """A scheduler with one worker."""
    with made_cluster(n_workers=1, threads_per_worker=4) as made:
        yield made.scheduler_address


@pytest.fixture(scope="module")
def open_scheduler():
    """One that asks for no certificates."""
    with distributed.LocalCluster(n_workers=1, protocol="tcp", **IN_THREADS) as made:
        yield made.scheduler_address


@pytest.fixture
def connect(certificates):
    def connect(address, gpu=False, certificates=certificates):
        return clusters.existing_cluster(address, cluster_sides.opened, gpu, certificates)

    return connect


@pytest.fixture
def connected(scheduler, connect):
    with connect(scheduler) as cluster:
        yield cluster


# With a scheduler and a worker in this process


def test_shards_are_those_of_this_process(tmp_path, connected, work):
    told = []
    call(tmp_path / "a", connected.compute(recipe()), work, lambda *amounts: told.append(amounts))
    call(tmp_path / "b", in_process(lambda: nullcontext(Content({}))), work)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 4
    assert told[0] == (0, 40) and told[-1] == (40, 40) and len(told) == 4
    found = connected.describe()["cluster"]
    assert found["scheduler"].startswith("tls://") and found["encrypted"] is True
    assert found["workers"] == 1 and found["distributed"] == distributed.__version__


def test_without_certificates_where_that_is_asked_for(tmp_path, open_scheduler, work, connect):
    with connect(open_scheduler, certificates=None) as cluster:
        assert len(call(tmp_path / "a", cluster.compute(recipe()), work)) == 3
        assert cluster.describe()["cluster"]["encrypted"] is False


def test_within_a_running_loop_as_a_notebook_has(tmp_path, scheduler, work, connect):
    async def cell():
        with connect(scheduler) as cluster:
            return call(tmp_path / "a", cluster.compute(recipe()), work)

    shards = asyncio.run(cell())
    assert sum(len(shard.images) for shard in shards) == 40


def test_a_model_stays_open_until_another_is_wanted(tmp_path, scheduler, work, connect):
    log = tmp_path / "log"
    with connect(scheduler) as cluster:
        call(tmp_path / "a", cluster.compute(recipe(log=str(log))), work)
        call(tmp_path / "b", cluster.compute(recipe(log=str(log))), work)
        assert [line.split()[0] for line in log.read_text().splitlines()] == ["open"]
        call(tmp_path / "c", cluster.compute(recipe(log=str(log), fatal=300)), work)
    deadline = time.monotonic() + 20
    while len(lines := log.read_text().splitlines()) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [line.split()[0] for line in lines] == ["open", "close"] * 2


def test_what_a_worker_cannot_do_names_it(tmp_path, connected, work):
    broken = connected.compute(recipe(failure="/there/model.index cannot be read."))
    with pytest.raises(InputError, match=r"Worker tls://.*: /there/model\.index cannot be read"):
        call(tmp_path / "a", broken, work)
    broken = connected.compute(recipe(error="DefaultCPUAllocator: not enough memory"))
    with pytest.raises(InputError, match=r"Worker tls://.*: memory ran out"):
        call(tmp_path / "b", broken, work)
    broken = connected.compute(recipe(error="a fault of the program"))
    with pytest.raises(WorkerDefect, match="a fault of the program"):
        call(tmp_path / "c", broken, work)


def test_other_images_at_the_worker(tmp_path, connected, work, monkeypatch):
    real, path = computing.fingerprints, work.folder / "5.png"

    def sent(part):
        found = real(part)
        path.write_bytes(b"x")
        return found

    monkeypatch.setattr(clusters, "fingerprints", sent)
    few = replace(work, images=work.images[:16])
    with pytest.raises(InputError, match=r"Worker tls://.*images/5\.png has another content"):
        call(tmp_path / "a", connected.compute(recipe()), few)


def test_workers_without_this_package(scheduler, connect, monkeypatch):
    def refused(*_):
        raise Exception("ModuleNotFoundError(\"No module named 'parity'\")")

    monkeypatch.setattr(distributed.Client, "register_plugin", refused)
    with (
        pytest.raises(InputError, match="No module named 'parity'.*install the same version"),
        connect(scheduler),
    ):
        pass


def test_workers_without_a_gpu(scheduler, connect):
    with (
        pytest.raises(InputError, match=r"declares a GPU.*--resources \"GPU=1\""),
        connect(scheduler, gpu=True),
    ):
        pass


def test_the_gpu_is_asked_for(tmp_path, work, made_cluster, connect):
    with made_cluster(n_workers=1, resources={"GPU": 1}) as made:
        with connect(made.scheduler_address, gpu=True) as cluster:
            asked = []
            submit = cluster._client.submit

            def watched(*arguments, **named):
                asked.append(named["resources"])
                # Nothing but text travels.
                assert {type(item) for item in arguments[1:]} == {str}
                return submit(*arguments, **named)

            cluster._client.submit = watched
            assert len(call(tmp_path / "a", cluster.compute(recipe()), work)) == 3
        assert asked == [{"GPU": 1}] * 3


def test_a_scheduler_without_workers(monkeypatch, made_cluster, connect):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 1.0)
    with (
        made_cluster(n_workers=0) as made,
        pytest.raises(InputError, match="has no workers; start some with dask worker tls://"),
        connect(made.scheduler_address),
    ):
        pass


def test_the_last_worker_leaves(tmp_path, work, monkeypatch, made_cluster, connect):
    monkeypatch.setattr(clusters, "WORKERS_TIMEOUT", 0.5)
    monkeypatch.setattr(clusters, "_LOOK_INTERVAL", 0.2)
    with made_cluster(n_workers=1) as made, connect(made.scheduler_address) as cluster:

        def leave(done, total):
            if done == 16:
                made.scale(0)

        with pytest.raises(InputError, match="No worker is left"):
            call(tmp_path / "a", cluster.compute(recipe()), work, leave)
    assert "00000.json" in contents(tmp_path / "a")


# Answers that are none


def sprung(path):
    """Note in which thread a pickle is opened, as of a trap; returns what can be raised."""
    with Path(path).open("a") as stream:
        stream.write(f"{threading.get_ident()}\n")
    return Exception("a trap")


class Trap:
    """Whoever unpickles it leaves a trace."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return sprung, (self.path,)


class TrapWarning(Warning):
    """The same as what can be raised or warned of."""

    def __init__(self, path):
        super().__init__("a trap")
        self.path = str(path)

    __reduce__ = Trap.__reduce__


async def thread():
    return threading.get_ident()


def is_caught(client, path):
    """Whether a client has stepped into it; scheduler and worker have threads of their own."""
    time.sleep(0.2)
    ours = {threading.get_ident(), client.sync(thread)}
    return path.exists() and bool(ours & set(map(int, path.read_text().split())))


@contextmanager
def answering(monkeypatch, what):
    """Have workers answer by this function of the task."""
    with monkeypatch.context() as changed:
        changed.setattr(cluster_worker.Models, "answer", lambda self, task: what(task))
        yield


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda task: "Hello", "malformed"),
        (lambda task: '{"answer":"shard","images":[],"seconds":{}}', r"its images are \[\]"),
        (lambda task: 7, "it is a int"),
        (lambda task: None, "it is a NoneType"),
        (lambda task: "x" * 20_000_000, "more than .* bytes"),
    ],
)
def test_what_is_no_answer_names_the_worker(tmp_path, connected, work, monkeypatch, what, reason):
    with (
        answering(monkeypatch, what),
        pytest.raises(InputError, match=f"^Worker tls://.* has sent something else .*{reason}"),
    ):
        call(tmp_path / "a", connected.compute(recipe()), work)


@pytest.mark.parametrize("asked", [True, False])
def test_a_pickled_answer_is_not_opened(tmp_path, connected, work, monkeypatch, asked):
    """Whether its worker does as it is asked, and sends no pickles, or not."""
    path = tmp_path / "made"
    gather = distributed.scheduler.gather_from_workers
    if not asked:
        monkeypatch.setattr(
            distributed.scheduler,
            "gather_from_workers",
            lambda *given, **options: gather(*given, **{**options, "serializers": None}),
        )
    with (
        answering(monkeypatch, lambda task: Trap(path)),
        pytest.raises(InputError, match=r"^Worker tls://.* has sent something else .*"
                      f"serialized with {'error' if asked else 'pickle'} but only"),
    ):  # fmt: skip
        call(tmp_path / "a", connected.compute(recipe()), work)
    assert not is_caught(connected._client, path)


def test_a_pickled_reason_of_a_failure_is_not_opened(tmp_path, connected, work, monkeypatch):
    path = tmp_path / "made"

    def fail(task):
        raise TrapWarning(path)

    with (
        answering(monkeypatch, fail),
        pytest.raises(InputError, match="cannot load what is sent to it, so that shard 0 was not"),
    ):
        call(tmp_path / "a", connected.compute(recipe()), work)
    assert not is_caught(connected._client, path)


def test_a_pickled_type_of_an_answer_is_not_opened(tmp_path, connected, work, monkeypatch):
    path = tmp_path / "made"
    pickle = SimpleNamespace(dumps=lambda _: distributed.protocol.pickle.dumps(Trap(path)))
    monkeypatch.setattr(distributed.worker_state_machine, "pickle", pickle)
    assert len(call(tmp_path / "a", connected.compute(recipe()), work)) == 3
    assert not is_caught(connected._client, path)


@pytest.mark.filterwarnings("ignore:a trap")
def test_a_pickled_warning_is_not_opened(tmp_path, connected, work, monkeypatch):
    path = tmp_path / "made"

    def warn(task):
        distributed.worker.warn(TrapWarning(path))
        return "Hello"

    with answering(monkeypatch, warn), pytest.raises(InputError, match="something else"):
        call(tmp_path / "a", connected.compute(recipe()), work)
    assert not is_caught(connected._client, path)


@pytest.mark.filterwarnings("ignore:a trap")
def test_dasks_own_client_is_caught_in_each_trap(tmp_path, scheduler, certificates):
    """So that the tests before show something."""

    def fail(path):
        raise TrapWarning(path)

    def warn(path):
        distributed.worker.warn(TrapWarning(path))

    for kind in (Trap, fail, warn):
        path = tmp_path / kind.__name__
        given = {"security": certificates.security(), "set_as_default": False}
        with distributed.Client(scheduler, **given) as client:
            future = client.submit(kind, str(path), pure=False)
            with suppress(Exception):
                future.result()
            assert is_caught(client, path), kind


def test_a_shard_that_kills_its_workers_is_named(tmp_path, work, made_cluster, connect):
    """In processes of their own, by a real death, which the scheduler tells in its own way."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        made_cluster(n_workers=1, processes=True) as made,
        connect(made.scheduler_address) as cluster,
        pytest.raises(
            InputError, match=r"Shard 1 \(images 16\.png to 31\.png\).* died of it again"
        ),
    ):
        call(tmp_path / "a", cluster.compute(recipe(fatal=20)), work)
    assert "00000.json" in contents(tmp_path / "a")


# Who may take part


def refused(connect, address, **options):
    with pytest.raises(InputError) as caught, connect(address, **options):
        pass
    text = str(caught.value)
    assert len(text) < 1000 and text.isprintable() and text.endswith(".")
    return text


def test_a_scheduler_without_a_certificate(open_scheduler, connect):
    found = refused(connect, open_scheduler.replace("tcp://", "tls://"))
    assert "or none whose certificate holds before --tls-ca" in found
    assert "start it with --tls-ca-file, --tls-cert and --tls-key" in found
    assert "connections are not encrypted" in refused(connect, open_scheduler)


@pytest.mark.filterwarnings("ignore:unclosed <socket")
def test_a_scheduler_of_another_authority(tmp_path, scheduler, connect):
    other = Authority(tmp_path / "b").member("other")
    given = Certificates.checked(other.ca, other.cert, other.key)
    found = refused(connect, scheduler, certificates=given)
    assert "or none whose certificate holds before --tls-ca" in found
    # What tornado leaves to be collected.
    gc.collect()


def test_a_peer_without_a_certificate_is_refused(scheduler, member):
    """By a scheduler as the command line of Dask starts it, whatever the peer would be."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dask = [sys.executable, "-W", "ignore", "-m", "dask"]
    command = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    command += ["--tls-ca-file", member.ca, "--tls-cert", member.cert, "--tls-key", member.key]
    process = subprocess.Popen(
        [*map(str, command), "--protocol", "tls"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        for line in process.stderr:
            if "Scheduler at:" in line:
                break
        for protocol in ("tls", "tcp"):
            for attempt in (clusters._greet, _as_dask_does):
                with pytest.raises((OSError, asyncio.TimeoutError, RuntimeError)):
                    asyncio.run(
                        asyncio.wait_for(attempt(f"{protocol}://127.0.0.1:{port}", _nobody()), 2)
                    )
        given = Certificates(member.ca, member.cert, member.key).security()
        asyncio.run(asyncio.wait_for(clusters._greet(f"tls://127.0.0.1:{port}", given), 10))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def _as_dask_does(address, security):
    """A worker's first words to a scheduler."""
    from distributed.core import rpc

    async with rpc(address, connection_args=security.get_connection_args("worker")) as found:
        await found.identity()


class _nobody:
    """Trusts everybody and has no certificate."""

    def get_connection_args(self, role):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return {"ssl_context": context, "require_encryption": False, "extra_conn_args": {}}


@pytest.mark.parametrize("address", ["nonsense://x", "not an address", "", "tls://127.0.0.1:1"])
def test_addresses_that_are_none(address, connect):
    assert "No Dask scheduler answers at" in refused(connect, address, certificates=None)


@pytest.mark.parametrize("address", ["not an address\x1b[2J", "", "tls://127.0.0.1:1", "tls://"])
def test_addresses_that_are_none_with_certificates(address, connect, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 0.5)
    assert "No Dask scheduler answers at" in refused(connect, address)


def test_nobody_answers(monkeypatch, connect):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        closed = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        for listens in (False, True):
            if listens:
                silent.listen()
            assert closed in refused(connect, closed)


# The command line


@pytest.fixture
def arguments(tiny_checkpoint, tmp_path):
    """Arguments for an image; the folder of results is missing."""
    image = {"id": 1, "file_name": "1.png", "width": 40, "height": 24}
    values = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(values))
    (tmp_path / "1.png").write_bytes(b"")
    fixed = ["coco", tiny_checkpoint, "--images", tmp_path, "--annotations"]
    fixed += [tmp_path / "annotations.json", "--framework", "torch", "--out", tmp_path / "out"]
    return [str(word) for word in fixed]


def test_trust_is_asked_for(arguments, member, capsys, open_scheduler, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 0.5)
    files = ["--tls-ca", member.ca, "--tls-cert", member.cert, "--tls-key", member.key]
    files = [str(word) for word in files]
    for options, message in (
        (["--scheduler", open_scheduler], "without --tls-ca and --tls-cert and --tls-key"),
        (["--scheduler", open_scheduler, *files[:4]], "without --tls-key, and Dask runs code of"),
        (["--scheduler", "tls://x:1", *files, "--insecure"], "--insecure is given together with"),
        (["--workers", "1", *files], "cannot be used without --scheduler"),
        (["--insecure"], "--insecure cannot be used without --scheduler"),
        (["--workers", "1", "--scheduler", "tcp://x:1"], "--workers and --scheduler are both"),
        (["--scheduler", open_scheduler, *files], "whose connections are not encrypted"),
        (["--scheduler", "tls://127.0.0.1:1", *files], "No Dask scheduler answers"),
        (["--scheduler", "nonsense://x", "--insecure"], "No Dask scheduler answers"),
        (["--scheduler", "tls://x:1", *files[:5], files[1]], "holds no private key"),
    ):
        assert compare.main([*arguments, *options]) == 2, options
        assert message in (told := capsys.readouterr().err), told


def test_without_dask(arguments, capsys, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "distributed" else find(name)
    )
    assert compare.main([*arguments, "--scheduler", "tcp://x:1", "--insecure"]) == 2
    assert "needs distributed, which is not installed; run pip" in capsys.readouterr().err
