"""TensorFlow reads what this package writes, and this package reads what TensorFlow writes."""

import numpy as np
import pytest

from converter.tensorflow_files.bundle import open_bundle, read_index
from converter.tensorflow_files.bundle_writer import write_bundle
from converter.tensorflow_files.table import read_table
from efficientdet_spec import InputError

tensorflow = pytest.importorskip("tensorflow")

TYPES = [
    np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16,
    np.uint32, np.uint64, np.bool_, np.complex64, np.complex128,
]  # fmt: skip
SHAPES = [(), (1,), (3,), (0,), (2, 0, 3), (3, 3, 4, 5), (1, 1, 1, 2)]


@pytest.fixture(scope="module")
def tensors():
    """Tensors of all types and shapes under enough names for several table blocks."""
    generator = np.random.default_rng(0)
    values = {
        f"type_{np.dtype(dtype).name}/{len(shape)}_{np.prod(shape, dtype=int)}": generator.integers(
            0, 2 if dtype is np.bool_ else 100, shape
        ).astype(dtype)
        for dtype in TYPES
        for shape in SHAPES
    }
    for i in range(5000):
        name = f"efficientnet-b0/blocks_{i}/conv2d/kernel/ExponentialMovingAverage"
        values[name] = generator.normal(size=i % 5).astype(np.float32)
    return values


@pytest.fixture(scope="module")
def written(tensors, tmp_path_factory):
    prefix = tmp_path_factory.mktemp("tensorflow") / "model"
    _save(prefix, dict(sorted(tensors.items())))
    return prefix


def _save(prefix, tensors, slices=None):
    tensorflow.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=slices or [""] * len(tensors),
        tensors=list(tensors.values()),
    )


def test_reads_tensorflows_files(written, tensors):
    assert written.with_name("model.index").stat().st_size > 1 << 18
    opened = open_bundle(written)
    assert set(opened.index.entries) == set(tensors)
    for name, expected in tensors.items():
        values = opened.read(name)
        assert (values.dtype, values.shape) == (expected.dtype, expected.shape)
        assert values.tobytes() == expected.tobytes()


def test_tensorflow_reads_our_files(tensors, tmp_path):
    write_bundle(tmp_path / "model", tensors)
    assert tensorflow.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model")
    reader = tensorflow.train.load_checkpoint(str(tmp_path))
    assert set(reader.get_variable_to_shape_map()) == set(tensors)
    for name, expected in tensors.items():
        values = np.asarray(reader.get_tensor(name))
        assert (values.dtype, values.shape) == (expected.dtype, expected.shape)
        assert values.tobytes() == expected.tobytes()


def test_our_files_are_tensorflows_byte_for_byte(written, tensors, tmp_path):
    write_bundle(tmp_path / "model", tensors)
    for name in ("model.index", "model.data-00000-of-00001"):
        assert (tmp_path / name).read_bytes() == (written.parent / name).read_bytes()


def test_saver_files_are_reproduced_byte_for_byte(tmp_path):
    values = {"b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(7, np.int64)}
    with tensorflow.Graph().as_default():
        for name, value in values.items():
            tensorflow.compat.v1.get_variable(name, initializer=value, use_resource=False)
        with tensorflow.compat.v1.Session() as session:
            session.run(tensorflow.compat.v1.global_variables_initializer())
            saver = tensorflow.compat.v1.train.Saver()
            saver.save(session, str(tmp_path / "theirs"), write_meta_graph=False)
    write_bundle(tmp_path / "ours", values)
    for end in (".index", ".data-00000-of-00001"):
        ours, theirs = tmp_path / f"ours{end}", tmp_path / f"theirs{end}"
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("name", ['my "model"', "modèle", "back\\slash", "model.ckpt-300"])
def test_tensorflow_reads_our_state_file(tmp_path, name):
    write_bundle(tmp_path / name, {"x": np.ones(2, np.float32)})
    state = tensorflow.train.get_checkpoint_state(str(tmp_path))
    assert state.model_checkpoint_path == str(tmp_path / name)


def test_types_without_a_numpy_type(tmp_path):
    text = tensorflow.constant(["some", "text"])
    brain = tensorflow.constant([1.0, 2.0], tensorflow.bfloat16)
    _save(tmp_path / "model", {"brain": brain, "text": text, "x": np.ones(3, np.float32)})
    opened = open_bundle(tmp_path / "model")
    assert opened.index.entries["text"].dtype_name == "DT_STRING"
    assert opened.index.entries["brain"].dtype_name == "DT_BFLOAT16"
    assert opened.read("brain").tolist() == [1, 2]
    assert opened.read_strings("text") == [b"some", b"text"]
    assert opened.read("x").tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="DT_STRING"):
        opened.read("text")


def test_object_checkpoints_are_read(tmp_path):
    saved = tensorflow.train.Checkpoint(x=tensorflow.Variable([1.0, 2.0]))
    opened = open_bundle(type(tmp_path)(saved.write(str(tmp_path / "model"))))
    assert opened.index.entries["_CHECKPOINTABLE_OBJECT_GRAPH"].dtype is None
    assert opened.read("x/.ATTRIBUTES/VARIABLE_VALUE").tolist() == [1, 2]


def test_partitioned_tensors_are_refused(tmp_path):
    _save(tmp_path / "model", {"x": np.zeros((2, 2), np.float32)}, ["4 2 0,2:-"])
    with pytest.raises(InputError, match="tensor 'x' in several pieces"):
        read_index(tmp_path / "model.index")


def test_tables_of_tensorflow_begin_with_the_header(written):
    items = read_table(written.with_name("model.index").read_bytes(), "model.index")
    assert items[0][0] == b""
    assert [key for key, _ in items] == sorted(key for key, _ in items)
