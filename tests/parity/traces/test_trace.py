"""Traces: what is recorded comes back bit for bit, and what cannot be trusted is refused."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from efficientdet_spec import InputError, NodeKind, get_config
from parity.sides.stream import StreamError
from parity.traces.header import TraceHeader, TraceNode, trace_bytes
from parity.traces.reader import check_matches, is_trace, open_trace
from parity.traces.writer import select, summary, trace_nodes, write_trace

ROOT = Path(__file__).parents[3]
TINY = get_config("tiny")
SHAPE = (1, 12, 16, 5)


class Source:
    """Stands for a reference: gives seeded tensors by name and notes which it was asked for."""

    def __init__(self, names, shape=SHAPE, dtype="float32"):
        rng = np.random.default_rng(1)
        self.tensors = {name: rng.standard_normal(shape).astype(dtype) for name in names}
        self.computed = []

    @contextlib.contextmanager
    def stream(self):
        self._due = iter(self.tensors)
        yield self

    def take(self, name):
        self.skip()
        assert self.computed[-1] == name
        return self.tensors[name]

    def skip(self):
        self.computed.append(next(self._due))

    def release(self):
        pass


def described(images, **other):
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    _, height, width, _ = images.shape
    return {
        "source": "built-in", "height": height, "width": width, "sha256": digest, **other
    }  # fmt: skip


CHECKPOINT = {"source": "here", "fingerprint": "ab" * 32, "weights": "ema"}


class Recording:
    """A small recording and everything to make it again with changes."""

    def __init__(self, folder, globs=(), dtype="float32", shape=SHAPE):
        self.path = folder / "trace.h5"
        self.source = Source(["a.conv", "a.bn", "b.conv@P3", "b.bn"], shape, dtype)
        self.images = np.random.default_rng(2).standard_normal((1, 12, 16, 3)).astype(dtype)
        names = list(self.source.tensors)
        chosen = select(names, globs)
        self.header = TraceHeader(
            config=TINY,
            checkpoint=CHECKPOINT,
            input=described(self.images),
            dtype=dtype,
            environment={"threads": 2},
            outputs=("b.bn",),
            globs=tuple(globs),
            nodes=tuple(
                TraceNode(name, NodeKind.CONV, f"{name}:0", shape, name in chosen) for name in names
            ),
        )

    def write(self, **options):
        write_trace(self.path, self.header, self.images, self.source.stream, **options)
        return self.path


@pytest.fixture
def recording(tmp_path):
    return Recording(tmp_path)


def left_over(recording):
    return sorted(path.name for path in recording.path.parent.iterdir())


def read_all(trace):
    with trace.stream() as tensors:
        result = {}
        for name in trace.kinds:
            if name in trace.recorded:
                result[name] = tensors.take(name)
                tensors.release()
    return result


def assert_same_bits(found, expected):
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype
        assert array.shape == expected[name].shape
        assert array.tobytes() == expected[name].tobytes(), name


# Round trips


class Live:
    """The tiny model's reference, and a trace of it."""

    def __init__(self, checkpoint, conversion, path):
        import reference_tf
        from parity.sides.tensorflow_graph import TensorflowReference

        built = reference_tf.build(conversion.config, 96, 128)
        self.kinds, self.outputs, self.tensors = built.kinds, built.output_nodes, built.nodes
        taps = TensorflowReference(built)
        self.session = reference_tf.open_session(built.graph, 2)
        built.restore(self.session, checkpoint / "model", ema=True)
        self.images = np.random.default_rng(0).standard_normal((1, 96, 128, 3)).astype("float32")
        reference = taps.reference(self.session, {})
        self.stream = partial(reference.compute, self.images)
        self.header = TraceHeader(
            config=conversion.config,
            checkpoint=CHECKPOINT,
            input=described(self.images),
            dtype="float32",
            environment={},
            outputs=tuple(built.output_nodes),
            globs=(),
            nodes=trace_nodes(reference, ()),
        )
        self.path = path
        self.progress = []
        write_trace(
            path,
            self.header,
            self.images,
            self.stream,
            progress=lambda *amounts: self.progress.append(amounts),
        )


@pytest.fixture(scope="module")
def live(tiny_checkpoint, tiny_conversion, tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "tiny.h5"
    result = Live(tiny_checkpoint, tiny_conversion, path)
    yield result
    result.session.close()


def test_a_networks_trace_is_what_it_computed(live):
    expected = {}
    with live.stream() as tensors:
        for name in live.kinds:
            expected[name] = tensors.take(name).copy()
            tensors.release()
    trace = open_trace(live.path)
    assert list(trace.kinds.items()) == list(live.kinds.items())
    assert trace.recorded == set(live.kinds)
    assert trace.tensors == {name: tensor.name for name, tensor in live.tensors.items()}
    assert list(trace.outputs) == live.outputs
    assert trace.header == live.header
    assert trace.images.tobytes() == live.images.tobytes()
    assert live.progress == [(n + 1, len(live.kinds)) for n in range(len(live.kinds))]
    assert_same_bits(read_all(trace), expected)


class Comparing:
    """Compares one faulty candidate with whatever stands for the reference."""

    def __init__(self, live, conversion):
        from parity.sides.pytorch import FaithfulReferee
        from torch_model.checkpoint import from_arrays

        def model():
            arrays = {name: array.copy() for name, array in conversion.arrays.items()}
            return from_arrays(conversion.config, arrays, "tiny")

        self.referee = FaithfulReferee(model(), live.kinds, live.images.shape)
        self.model = model()
        # A difference somewhere, so that there is something to agree on.
        self.model.backbone.blocks[2].expand_conv.weight.data[3, 1] *= -1

    def results(self, side, recorded=None):
        from paired import paired

        from parity.lockstep.comparison import compare
        from parity.sides.naming import own_paths

        pairing = paired(
            side.stream,
            self.model,
            own_paths(side.kinds),
            self.referee,
            side.images,
            side.outputs,
            recorded,
        )
        return compare(pairing).nodes


@pytest.fixture(scope="module")
def comparing(live, tiny_conversion):
    return Comparing(live, tiny_conversion)


def test_a_comparison_with_a_trace_gives_the_results_of_the_live_one(live, comparing):
    trace = open_trace(live.path)
    recorded = comparing.results(trace, trace.recorded)
    assert recorded == comparing.results(live)
    assert [node.name for node in recorded if not node.verdict.passes] == [
        "backbone.blocks.2.expand_conv"
    ]


def test_a_comparison_with_a_part_covers_that_part(live, comparing, tmp_path):
    part = {"backbone.blocks.2.expand_conv", "class_head.convs.0.depthwise@P4"}
    nodes = tuple(replace(node, recorded=node.name in part) for node in live.header.nodes)
    path = tmp_path / "part.h5"
    write_trace(path, replace(live.header, nodes=nodes), live.images, live.stream)
    trace = open_trace(path)
    found = {node.name: node for node in comparing.results(trace, trace.recorded)}
    assert list(found) == list(live.kinds)
    assert {name for name, node in found.items() if node.free} == part


def test_an_interruption_ends_the_network_and_leaves_nothing(live, tmp_path):
    def interrupt(done, total):
        if done == 20:
            raise KeyboardInterrupt

    path = tmp_path / "trace.h5"
    with pytest.raises(KeyboardInterrupt):
        write_trace(path, live.header, live.images, live.stream, progress=interrupt)
    assert not any(tmp_path.iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name == "tensorflow"]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_types_packed_or_not(tmp_path, dtype, compress):
    recording = Recording(tmp_path, dtype=dtype)
    trace = open_trace(recording.write(compress=compress))
    assert trace.header.dtype == trace.images.dtype == dtype
    assert_same_bits(read_all(trace), recording.source.tensors)


@pytest.mark.parametrize("compress", [False, True])
def test_equal_traces_are_equal_bytes(recording, compress):
    """HDF5 would write down when it made each group."""
    first = recording.write(compress=compress).read_bytes()
    time.sleep(1.1)
    assert recording.write(compress=compress).read_bytes() == first


def test_batches_and_special_values(tmp_path):
    recording = Recording(tmp_path, shape=(2, 3, 4, 5))
    recording.images = np.zeros((2, 12, 16, 3), "float32")
    recording.header = replace(recording.header, input=described(recording.images))
    recording.source.tensors["a.bn"].flat[:4] = np.nan, np.inf, -0.0, 1e-45
    trace = open_trace(recording.write(compress=True))
    assert_same_bits(read_all(trace), recording.source.tensors)


def test_compression_takes_less_room(tmp_path):
    sizes = {}
    for compress in (False, True):
        recording = Recording(tmp_path, shape=(1, 64, 64, 96))
        for array in recording.source.tensors.values():
            array[array < 0] = 0
        sizes[compress] = recording.write(compress=compress).stat().st_size
        with h5py.File(recording.path) as file:
            dataset = file["nodes/a.conv"]
            assert dataset.compression == ("gzip" if compress else None)
            if compress:
                assert dataset.shuffle
                assert dataset.chunks == (1, 42, 64, 96)
    assert sizes[True] < 0.8 * sizes[False]
    raw = trace_bytes([(1, 64, 64, 96)] * 4, "float32")
    assert raw < sizes[False] < raw + 20_000


def test_the_file_explains_itself_to_other_programs(recording):
    with h5py.File(recording.write()) as file:
        assert list(file) == ["complete", "header", "images", "nodes"]
        assert list(file["nodes"]) == list(recording.source.tensors)
        attributes = dict(file["nodes/a.bn"].attrs)
        assert attributes == {"kind": b"convolution", "tensor": b"a.bn:0", "position": 1}
        header = json.loads(file["header"][()])
    assert header["schema"] == "efficientdet-parity/trace"
    assert header["version"] == 1
    assert header["model"] == "efficientdet-tiny"
    assert header["levels"] == [3, 4, 5, 6, 7]
    assert header["node_count"] == 4


def test_a_header_beyond_what_attributes_hold(tmp_path):
    recording = Recording(tmp_path)
    recording.header = replace(recording.header, environment={"long": "x" * 200_000})
    assert open_trace(recording.write()).header.environment == {"long": "x" * 200_000}


# The consumer's side


def test_arrays_stay_valid_and_belong_to_who_took_them(recording):
    trace = open_trace(recording.write())
    with trace.stream() as tensors:
        first = tensors.take("a.conv")
        first[...] = 7
        tensors.release()
        second = tensors.take("a.bn")
    assert np.all(first == 7)
    assert second.tobytes() == recording.source.tensors["a.bn"].tobytes()


def test_order_is_kept_as_a_computing_reference_keeps_it(recording):
    trace = open_trace(recording.write())
    with trace.stream() as tensors:
        with pytest.raises(StreamError, match=r"offers a\.conv where b\.bn was due"):
            tensors.take("b.bn")
        for _ in range(4):
            tensors.skip()
        with pytest.raises(StreamError, match="ends before another tensor"):
            tensors.skip()
        with pytest.raises(StreamError, match=r"ends before b\.bn"):
            tensors.take("b.bn")


# Part of the nodes


def test_globs_choose_what_is_recorded(tmp_path):
    recording = Recording(tmp_path, globs=["a.b*", "b.conv@*"])
    trace = open_trace(recording.write())
    assert trace.recorded == {"a.bn", "b.conv@P3"}
    assert list(trace.kinds) == list(recording.source.tensors)
    assert trace.header.globs == ("a.b*", "b.conv@*")
    expected = {name: recording.source.tensors[name] for name in ("a.bn", "b.conv@P3")}
    assert_same_bits(read_all(trace), expected)
    # What comes after the last one wanted is not even computed.
    assert recording.source.computed == ["a.conv", "a.bn", "b.conv@P3"]
    assert "2 of 4 nodes" in summary(recording.header)


def test_a_node_that_is_not_recorded_cannot_be_taken(tmp_path):
    trace = open_trace(Recording(tmp_path, globs=["b.*"]).write())
    with trace.stream() as tensors, pytest.raises(StreamError, match=r"recorded without a\.conv"):
        tensors.take("a.conv")


def test_selecting():
    names = ["a", "B", "b"]
    assert select(names, []) == {"a", "B", "b"}
    assert select(names, ["b", "[a]"]) == {"a", "b"}


def test_a_glob_that_matches_nothing():
    names = [f"node.{number}" for number in range(8)]
    with pytest.raises(InputError, match=r"'heads\.\*' matches none of the 8 nodes.*node\.0, node"):
        select(names, ["node.*", "heads.*"])


# Room, failures and interruptions


def test_sizes():
    assert trace_bytes([(1, 2, 3, 4), (1, 1, 1, 5)], "float32") == 29 * 4
    assert trace_bytes([(1, 2, 3, 4)], "float64") == 24 * 8
    assert trace_bytes([], "float32") == 0


def test_too_little_room_is_said_before_anything_is_computed(recording, monkeypatch):
    needed = recording.header.bytes
    usage = type("Usage", (), {"free": needed})
    monkeypatch.setattr("parity.traces.writer.shutil.disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="are free there; choose another disk"):
        recording.write()
    assert recording.source.computed == []
    recording.write(compress=True)
    usage.free = needed + 100_000
    recording.write()


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests/parity/traces")
from test_trace import Recording
from parity.process.console import guarded
recording = Recording(Path(sys.argv[1]), shape=(1, 64, 64, 16))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
sys.exit(guarded("record", lambda: 0 if recording.write(compress=sys.argv[3] == "1") else 1))
"""


@pytest.mark.parametrize(
    ("limit", "compress"), [(0, 0), (3000, 0), (300_000, 0), (300_000, 1), (1_049_000, 0)]
)
def test_a_disk_that_fills_up(tmp_path, limit, compress):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit), str(compress)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "trace.h5 cannot be written (File too large); choose a file" in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, StreamError])
def test_what_is_cut_short_leaves_the_former_file(recording, failure):
    recording.path.write_bytes(b"former")

    def stop(done, total):
        if done == 2:
            raise failure("stopped")

    with pytest.raises(failure):
        recording.write(progress=stop)
    assert left_over(recording) == ["trace.h5"]
    assert recording.path.read_bytes() == b"former"
    assert read_all(open_trace(recording.write()))


def test_an_interruption_within_a_write(recording, monkeypatch):
    real = open

    def opening(*arguments, **options):
        raw = real(*arguments, **options)

        class Raw:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                raw.close()

            def __getattr__(self, name):
                return getattr(raw, name)

            def write(self, data):
                raise KeyboardInterrupt

        return Raw()

    monkeypatch.setattr("parity.traces.writer.open", opening, raising=False)
    with pytest.raises(KeyboardInterrupt):
        recording.write()
    assert left_over(recording) == []


def test_a_folder_that_does_not_exist(recording):
    recording.path = recording.path.parent / "none" / "trace.h5"
    with pytest.raises(InputError, match="cannot be written"):
        recording.write()
    assert recording.source.computed == []


def test_a_reference_that_computes_something_else(recording):
    recording.source.tensors["a.bn"] = recording.source.tensors["a.bn"][:, :3]
    with pytest.raises(StreamError, match=r"a\.bn is float32 \(1, 3, 16, 5\), not float32"):
        recording.write()
    recording.source.tensors["a.bn"] = np.zeros(SHAPE)
    with pytest.raises(StreamError, match=r"a\.bn is float64"):
        recording.write()
    assert left_over(recording) == []


def test_without_h5py(recording, monkeypatch):
    recording.write()
    monkeypatch.setitem(sys.modules, "h5py", None)
    for work in (recording.write, partial(open_trace, recording.path)):
        with pytest.raises(InputError, match=r"pip install '.*\[traces\]'"):
            work()


# Files that are not what they should be


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.h5 is no file"):
        open_trace(tmp_path / "none.h5")
    with pytest.raises(InputError, match="is no file"):
        open_trace(tmp_path)


@pytest.mark.parametrize("content", [b"", b"some text", b"\x89PNG" * 1000])
def test_no_hdf5(tmp_path, content):
    path = tmp_path / "trace.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no trace but not even an HDF5 file"):
        open_trace(path)


def test_another_hdf5_file(tmp_path):
    path = tmp_path / "keras.h5"
    with h5py.File(path, "w") as file:
        file["model_weights/stem/kernel:0"] = np.zeros(3)
    with pytest.raises(InputError, match="is no trace but an HDF5 file without a header"):
        open_trace(path)


def test_truncated_files(recording):
    content = recording.write().read_bytes()
    for length in (len(content) - 1, len(content) // 2, 3000, 100, 48):
        recording.path.write_bytes(content[:length])
        with pytest.raises(InputError, match="cut off or damaged"):
            open_trace(recording.path)


def test_without_the_mark_of_completion(recording):
    with h5py.File(recording.write(), "a") as file:
        del file["complete"]
    with pytest.raises(InputError, match="incomplete trace, whose recording was cut short"):
        open_trace(recording.path)


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize("compress", [False, True])
def test_a_flipped_bit_of_a_tensor_is_noticed_when_it_is_taken(recording, compress):
    with h5py.File(recording.write(compress=compress)) as file:
        dataset = file["nodes/a.bn"].id
        start = dataset.get_chunk_info(0).byte_offset if compress else dataset.get_offset()
    flip(recording.path, start + 100)
    trace = open_trace(recording.path)
    with trace.stream() as tensors:
        tensors.take("a.conv")
        tensors.release()
        with pytest.raises(InputError, match="cut off or damaged"):
            tensors.take("a.bn")


@pytest.mark.parametrize("part", ["header", "images", "complete"])
def test_a_flipped_bit_elsewhere(recording, part):
    with h5py.File(recording.write()) as file:
        start = file[part].id.get_offset()
    # A letter of the checkpoint's source stays a letter, so that only the checksum can tell.
    content = recording.path.read_bytes()
    source = content.index(b'"here"') - start + 2 if part == "header" else 60
    for position in (0, source, 100):
        flip(recording.path, start + position)
        with pytest.raises(InputError, match="is cut off or damaged"):
            read_all(open_trace(recording.path))
        flip(recording.path, start + position)
    assert read_all(open_trace(recording.path))


def test_a_flipped_bit_anywhere_changes_no_tensor(recording):
    content = recording.write().read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    # The structure comes first and last in the file, and everywhere between tensors.
    for position in [*range(0, 96, 5), *rng.integers(0, len(content), 150)]:
        recording.path.write_bytes(content)
        flip(recording.path, position)
        try:
            found = read_all(open_trace(recording.path))
        except InputError:
            noticed += 1
        else:
            assert_same_bits(found, recording.source.tensors)
    assert noticed > 100


def forge(path, header=None, change=None):
    """Alters a trace and makes its checksums right again.

    Args:
        path: The trace.
        header: Changes the header's values in place, or returns others.
        change: Changes the open file.
    """
    with h5py.File(path, "a") as file:
        values = json.loads(file["header"][()])
        mark = json.loads(file["complete"][()])
        if header:
            values = header(values) or values
        text = json.dumps(values).encode()
        mark["header"] = zlib.crc32(text)
        for name, data in (("header", text), ("complete", json.dumps(mark).encode())):
            del file[name]
            file[name] = np.bytes_(data)
        if change:
            change(file)


def test_forging_alone_is_accepted(recording):
    forge(recording.write(), lambda values: values.update(later="addition"))
    assert read_all(open_trace(recording.path))


def test_another_schema(recording):
    forge(recording.write(), lambda values: values.update(schema="efficientdet-parity/other"))
    with pytest.raises(InputError, match="is no trace but 'efficientdet-parity/other'"):
        open_trace(recording.path)


def test_a_newer_version(recording):
    forge(recording.write(), lambda values: values.update(version=2))
    with pytest.raises(InputError, match="is a trace of version 2, but this program reads up to 1"):
        open_trace(recording.path)


def node_values(number, **changed):
    return lambda values: values["nodes"][number].update(changed)


HEADERS = {
    "not an object": lambda values: [1],
    "no version": lambda values: values.pop("version") and None,
    "an odd version": lambda values: values.update(version="1"),
    "no nodes": lambda values: values.pop("nodes") and None,
    "nothing recorded": lambda values: [n.update(recorded=0) for n in values["nodes"]] and None,
    "no list": lambda values: values.update(nodes=5),
    "two of one name": node_values(1, name="a.conv"),
    "no text": node_values(0, name=["a"]),
    "an unknown kind": node_values(0, kind="magic"),
    "escapes for the terminal": node_values(0, tensor="\x1b[2J"),
    "another rank": node_values(0, shape=[1, 12, 80]),
    "nothing in it": node_values(0, shape=[1, 0, 16, 5]),
    "a negative side": node_values(0, shape=[1, -12, -16, 5]),
    "half a side": node_values(0, shape=[1, 12.0, 16, 5]),
    "another batch": node_values(0, shape=[2, 6, 16, 5]),
    "another shape than stored": node_values(0, shape=[1, 16, 12, 5]),
    "another type": lambda values: values.update(dtype="float64"),
    "an unknown type": lambda values: values.update(dtype="object"),
    "a list for a type": lambda values: values.update(dtype=["float32"]),
    "unknown outputs": lambda values: values.update(outputs=["c"]),
    "another model": lambda values: values["config"].update(fpn_cells=10**9),
    "a wide image": lambda values: values["images"].update(width=10**6),
    "no hash": lambda values: values["images"].pop("sha256") and None,
    "another hash": lambda values: values["images"].update(sha256="00" * 32),
    "no fingerprint": lambda values: values["checkpoint"].pop("fingerprint") and None,
}


@pytest.mark.parametrize("forgery", HEADERS)
def test_headers_that_cannot_be_true(recording, forgery):
    forge(recording.write(), HEADERS[forgery])
    with pytest.raises(InputError, match="cut off or damaged"):
        open_trace(recording.path)


SAID = {
    "../images": "A trace's node is called '../images'",
    "..": "A trace's node is called '..'",
    "a\0b": "A trace's node is called",
    "a" * 201: "A trace's node is called 'aaaa",
}


@pytest.mark.parametrize("name", SAID, ids=["a path", "a group above", "a zero", "a long name"])
def test_names_that_lead_elsewhere_are_refused_before_they_are_followed(recording, name):
    forge(recording.write(), node_values(0, name=name))
    with pytest.raises(InputError, match=SAID[name]):
        open_trace(recording.path)


@pytest.mark.parametrize("shape", [[1, 2**20, 2**20, 2**20], [1, 10**4000, 1, 1]])
def test_sizes_beyond_any_network_are_refused_before_the_file_is_asked(recording, shape):
    forge(recording.write(), node_values(0, shape=shape))
    with pytest.raises(InputError, match=r"A trace's a\.conv has the shape \(1, 1"):
        open_trace(recording.path)


def put(name, make):
    """Replaces a part of the file by what ``make`` puts in its place."""

    def change(file):
        content = file[name][()]
        del file[name]
        make(file, name, content)

    return change


def storing(dtype=None, **options):
    def make(file, name, content):
        file.create_dataset(name, data=content.astype(dtype or content.dtype), **options)

    return make


def soft_link(file, name, content):
    file["elsewhere"] = content
    file[name] = h5py.SoftLink("/elsewhere")


def external_link(file, name, content):
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as second:
        second["secret"] = content
    file[name] = h5py.ExternalLink(str(other), "/secret")


def external_storage(file, name, content):
    other = Path(file.filename).with_name("other.bin")
    other.write_bytes(content.tobytes())
    storage = [(str(other), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, content.shape, content.dtype, external=storage)


def virtual(file, name, content):
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as second:
        second["secret"] = content
    layout = h5py.VirtualLayout(content.shape, content.dtype)
    layout[...] = h5py.VirtualSource(str(other), "secret", content.shape)
    file.create_virtual_dataset(name, layout)


def linked_group(file, name, content):
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as second:
        file.copy("nodes", second)
        second[name] = content
    del file["nodes"]
    file["nodes"] = h5py.ExternalLink(str(other), "/nodes")


def never_written(file, name, content):
    file.create_dataset(name, content.shape, content.dtype)


def never_written_chunks(file, name, content):
    file.create_dataset(name, content.shape, content.dtype, chunks=True, compression="gzip")


def packed_twice(file, name, content):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(content.shape)
    plan.set_deflate(1)
    plan.set_deflate(1)
    space = h5py.h5s.create_simple(content.shape)
    dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, plan)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(content))


PARTS = {
    "missing": lambda file, name, content: None,
    "a group": lambda file, name, content: file.create_group(name),
    "soft link": soft_link,
    "external link": external_link,
    "external link to the group": linked_group,
    "external storage": external_storage,
    "virtual": virtual,
    "never written": never_written,
    "never written in chunks": never_written_chunks,
    "integers": storing("<i4"),
    "double": storing("<f8"),
    "big endian": storing(">f4"),
    "other packing": storing(compression="lzf"),
    "packed twice": packed_twice,
    "flat": lambda file, name, content: file.create_dataset(name, data=content.reshape(-1)),
    "nothing": lambda file, name, content: file.create_dataset(name, data=h5py.Empty("<f4")),
    "objects": lambda file, name, content: file.create_dataset(
        name, content.shape, h5py.vlen_dtype(np.float32)
    ),
}


@pytest.mark.parametrize("part", ["nodes/a.bn", "images"])
@pytest.mark.parametrize("forgery", PARTS)
def test_parts_that_are_not_what_the_header_says(recording, forgery, part):
    forge(recording.write(), change=put(part, PARTS[forgery]))
    with pytest.raises(InputError, match="cut off or damaged"):
        open_trace(recording.path)


def test_a_tensor_larger_than_its_file_is_refused_before_memory_is_taken(recording):
    shape = (1, 4096, 4096, 64)

    def claim(file):
        del file["nodes/a.bn"]
        # All zeros compress by about a thousand: 4 GB are claimed by 9 kB.
        dataset = file.create_dataset(
            "nodes/a.bn", shape, "<f4", chunks=(1, 256, 256, 16), compression="gzip"
        )
        dataset[:, :256, :256, :16] = np.zeros((1, 256, 256, 16), "f4")

    forge(recording.write(), node_values(1, shape=list(shape)), claim)
    with pytest.raises(InputError, match=r"a\.bn claims 4294967296 bytes, but has"):
        open_trace(recording.path)


TEXTS = {
    "deep": (np.bytes_(b"[" * 200_000), "is no JSON|cannot be read"),
    "empty": (np.bytes_(b"{}"), "is no JSON|cannot be read"),
    "no UTF-8": (np.bytes_(b"\xff\xfe"), "is no JSON|cannot be read"),
    "numbers": (np.zeros(5), "is no text"),
    "one number": (np.float64(5), "is no text"),
    "variable length": ("a string of variable length", "is no text"),
    "huge": (np.bytes_(b"1" * (2**25 + 1)), "is no text"),
}


@pytest.mark.parametrize("name", ["header", "complete"])
@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_are_none(recording, name, kind):
    data, message = TEXTS[kind]
    with h5py.File(recording.write(), "a") as file:
        del file[name]
        file[name] = data
    with pytest.raises(InputError, match=f"cut off or damaged.*({message})"):
        open_trace(recording.path)


def test_a_file_that_changes_between_opening_and_streaming(recording):
    trace = open_trace(recording.write())
    recording.path.write_bytes(b"other")
    with pytest.raises(InputError, match="is no trace"), trace.stream():
        pass


def test_what_looks_like_a_trace(recording, tmp_path):
    other = recording.write().rename(tmp_path / "recorded")
    text = tmp_path / "model.meta"
    text.write_text("text")
    assert not is_trace(text)
    assert is_trace(other)
    assert is_trace(tmp_path / "missing.h5")
    assert not is_trace(tmp_path / "missing")
    assert not is_trace(tmp_path)


# What belongs together


def matching(trace):
    return {
        "config": TINY,
        "fingerprint": trace.header.checkpoint["fingerprint"],
        "weights": "ema",
        "images_sha256": trace.header.input["sha256"],
        "dtype": "float32",
    }


def test_what_matches(recording):
    trace = open_trace(recording.write())
    check_matches(trace, **matching(trace))
    check_matches(trace)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": get_config("d0")}, r"efficientdet-tiny .* candidate is efficientdet-d0 "),
        ({"config": TINY.with_classes(8)}, r"num_classes 7, .* num_classes 8; .*\('here'\)"),
        (
            {"config": replace(TINY, head_survival_probability=0.8)},
            r"with survival_prob None, .* with survival_prob 0\.8; ",
        ),
        ({"fingerprint": "cd" * 32}, r"fingerprint abababababababab .* has cdcdcdcdcdcdcdcd"),
        ({"weights": "raw"}, r"ema weights, .* raw ones; give --weights ema"),
        ({"images_sha256": "0" * 64}, r"'built-in' at 12x16 .* has 0000000000000000; leave"),
        ({"dtype": "float64"}, r"in float32, but float64 is asked for"),
    ],
)
def test_what_does_not_match(recording, changed, message):
    trace = open_trace(recording.write())
    with pytest.raises(InputError, match=message):
        check_matches(trace, **{**matching(trace), **changed})


# Recording without PyTorch

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import converter.conversion, parity.process.console, parity.process.environment
import parity.detections.images, parity.sides.stream
import parity.traces.reader, parity.traces.writer
import reference_tf, parity.sides.tensorflow_graph
from torch_model.preprocess import preprocess
import torch_model
try:
    torch_model.build
except ImportError:
    print("needs torch")
"""


def test_recording_needs_no_torch():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.stdout == "needs torch\n", done.stderr


def test_reading_needs_neither_tensorflow_nor_h5py_before_a_trace_is_opened():
    heavy = "{'tensorflow', 'torch', 'h5py'}"
    code = f"import sys, parity.traces.reader; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_names_that_come_when_asked_for():
    import torch_model
    from torch_model import checkpoint, model

    assert torch_model.build is model.build
    assert torch_model.load is checkpoint.load
    for name in torch_model.__all__:
        assert getattr(torch_model, name).__module__.startswith("torch_model.")
        assert name in dir(torch_model)
    with pytest.raises(AttributeError, match="'torch_model' has no attribute 'absent'"):
        _ = torch_model.absent
