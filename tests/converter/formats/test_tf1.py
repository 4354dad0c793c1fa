"""TensorFlow 1 checkpoints of ours: what TensorFlow and the reference read from them."""

from contextlib import ExitStack

import numpy as np
import pytest

from converter.conversion import convert
from converter.fetch.sources import resolve
from converter.formats.registry import formats
from converter.formats.target import Values
from converter.mappings.layouts import Permuted
from converter.mappings.official import iterate_pairs
from efficientdet_spec import EMA_SUFFIX, TINY, get_config

MODELS = pytest.mark.parametrize("model", ["d0", "lite0"])


def drawn(config, seed):
    generator = np.random.default_rng(seed)
    return {
        pair.parameter: generator.uniform(0.5, 1.5, pair.shape).astype(np.float32)
        for pair in iterate_pairs(config)
    }


def official(config, arrays, suffix=""):
    """The same values by the variables' names in a checkpoint."""
    return {
        name + suffix: part
        for pair in iterate_pairs(config)
        for name, part in zip(
            pair.variables, pair.layout.to_tensorflow(arrays[pair.parameter]), strict=True
        )
    }


def written(folder, config, **more):
    """What was written, and what each of its tensors has to be."""
    values = Values(config, drawn(config, 1), **more)
    made = formats()["tf1"].write(folder, values)
    plain = values.arrays if values.raw is None else values.raw
    wanted = {"global_step": np.array(0, np.int64), **official(config, plain)}
    if values.with_averages:
        wanted |= official(config, values.arrays, EMA_SUFFIX)
    return made, wanted


def cases(config):
    return {
        "averages": {},
        "no averages": {"with_averages": False},
        "raw and averages": {"raw": drawn(config, 2)},
    }


CASES = pytest.mark.parametrize("case", list(cases(TINY)))


@MODELS
@CASES
def test_tensorflow_reads_every_tensor(tmp_path, model, case):
    tensorflow = pytest.importorskip("tensorflow")
    config = get_config(model)
    made, wanted = written(tmp_path / "model", config, **cases(config)[case])
    reader = tensorflow.train.load_checkpoint(str(tmp_path / "model"))
    assert set(reader.get_variable_to_shape_map()) == set(wanted)
    assert [row.name for row in made.rows] == sorted(wanted)
    for name, values in wanted.items():
        found = np.asarray(reader.get_tensor(name))
        assert (found.dtype, found.shape) == (values.dtype, values.shape), name
        assert found.tobytes() == values.tobytes(), name


@pytest.fixture(scope="module")
def references():
    """The graph of each model, made once, with a session and what reads its variables."""
    tensorflow = pytest.importorskip("tensorflow")
    import reference_tf

    opened = {}

    def of(model):
        if model not in opened:
            built = reference_tf.build(get_config(model), 128, 128)
            with built.graph.as_default():
                reads = {
                    name: tensorflow.raw_ops.ReadVariableOp(
                        resource=variable.handle, dtype=variable.dtype
                    )
                    for name, variable in built.variables.items()
                }
            session = stack.enter_context(reference_tf.open_session(built.graph, 1))
            opened[model] = built, session, reads
        return opened[model]

    with ExitStack() as stack:
        yield of


@MODELS
@CASES
@pytest.mark.parametrize("ema", [True, False])
def test_the_reference_restores_every_variable(tmp_path, references, model, case, ema):
    config = get_config(model)
    _, wanted = written(tmp_path / "model", config, **cases(config)[case])
    built, session, reads = references(model)
    built.restore(session, tmp_path / "model" / "model", ema=ema)
    found = session.run(reads)
    assert len(found) == len(official(config, drawn(config, 1)))
    for name, values in found.items():
        chosen = name + EMA_SUFFIX if ema and name + EMA_SUFFIX in wanted else name
        assert values.tobytes() == wanted[chosen].tobytes(), name


@CASES
def test_what_is_written_converts_to_the_same(tmp_path, case):
    more = cases(TINY)[case]
    written(tmp_path / "model", TINY, **more)
    files = resolve(str(tmp_path / "model"), tmp_path)
    has_averages = more.get("with_averages", True)
    done = convert(files, weights="both" if has_averages else "ema")
    raw = more.get("raw", drawn(TINY, 1))
    for name, values in drawn(TINY, 1).items():
        assert done.arrays[name].tobytes() == values.tobytes(), name
        if has_averages:
            assert done.raw[name].tobytes() == raw[name].tobytes(), name


def test_what_is_both_is_laid_out_once(tmp_path, monkeypatch):
    laid_out = []
    plain = Permuted.to_tensorflow

    def counted(self, array):
        laid_out.append(array)
        return plain(self, array)

    monkeypatch.setattr(Permuted, "to_tensorflow", counted)
    counts = []
    for number, case in enumerate(("averages", "raw and averages")):
        values = Values(TINY, drawn(TINY, 1), **cases(TINY)[case])
        laid_out.clear()
        formats()["tf1"].write(tmp_path / str(number), values)
        counts.append(len(laid_out))
    assert counts[1] == 2 * counts[0] > 0
