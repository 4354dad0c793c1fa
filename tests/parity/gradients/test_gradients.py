"""A faithful model differentiates like the reference; each fault shows where it is."""

import functools
import json

import numpy as np
import pytest
import torch
from made_images import waves

from converter.mappings.official import iterate_pairs
from efficientdet_spec import InputError
from parity.gradients.comparison import Subject, compare_gradients
from parity.gradients.inputs import DITHER, dithered, output_patterns
from parity.gradients.pytorch import TorchGradients, faithful_gradients
from parity.gradients.sides import Gradients, map_gradients
from parity.gradients.text import gradients_text
from parity.gradients.verdict import Circumstances, Observation, judge
from parity.judge.verdict import Verdict
from parity.results.records.gradients import Mode
from parity.results.records.record import plain
from parity.results.records.shared import Checkpoint, Weights
from reference_tf.gradients import gradients
from torch_model.checkpoint import from_arrays
from torch_model.preprocess import preprocess

SIZE = (160, 192)

CHECKPOINT = Checkpoint("here", "0" * 64, Weights.EMA)
IMAGES = {"source": "here", "height": 64, "width": 64, "batch": 1, "sha256": "0" * 64}


class Comparison:
    """The tiny model's reference, each run of which is made once, and fresh candidates."""

    def __init__(self, conversion, prefix):
        self.conversion = conversion
        self.config = conversion.config
        self.pairs = list(iterate_pairs(self.config))
        self.prefix = prefix
        self.runs = {}

    def reference(self, images, patterns, *, dtype, training):
        key = (images.tobytes(), dtype, training)
        if key not in self.runs:
            found = gradients(
                self.config,
                lambda built, session: built.restore(session, self.prefix, ema=True),
                images,
                patterns,
                dtype=dtype,
                training=training,
                threads=2,
            )
            self.runs[key] = Gradients(
                found.scalar,
                found.images,
                map_gradients(self.pairs, found.variables),
                map_gradients(self.pairs, found.statistics),
            )
        return self.runs[key]

    def candidate(self):
        arrays = {name: array.copy() for name, array in self.conversion.arrays.items()}
        return from_arrays(self.config, arrays, "tiny")

    def run(self, model, modes=tuple(Mode), seed=0, progress=None):
        images = preprocess(waves(*SIZE, seed=seed), *SIZE)[None]
        subject = Subject(self.config.name, CHECKPOINT, "candidate", IMAGES, {})
        return compare_gradients(
            self.config,
            self.reference,
            TorchGradients(model),
            images,
            subject,
            modes=modes,
            progress=progress,
        )


@pytest.fixture(scope="module")
def comparison(tiny_conversion, tiny_checkpoint):
    return Comparison(tiny_conversion, tiny_checkpoint / "model")


@pytest.fixture(scope="module")
def faithful(comparison):
    steps = []
    model = comparison.candidate()
    report = comparison.run(model, progress=lambda done, runs: steps.append((done, runs)))
    assert steps == [(number, 10) for number in range(1, 11)]
    return report


def failing(report):
    return {result.name: result for result in report.failures()}


def test_a_faithful_model_passes_in_both_modes(comparison, faithful):
    assert [result.name for result in faithful.failures()] == []
    trained = {
        pair.parameter for pair in comparison.pairs if pair.parameter.split(".")[-1] not in STATS
    }
    statistics = {pair.parameter for pair in comparison.pairs} - trained
    inference = {result.name for result in faithful.of(Mode.INFERENCE)}
    training = {result.name for result in faithful.of(Mode.TRAINING)}
    assert inference == trained | {"scalar", "images"}
    assert training == inference | statistics
    structure = [result.structure for result in faithful.results]
    assert 0 < max(structure) < 1e-9


STATS = ("running_mean", "running_var")


@pytest.mark.heavy
def test_a_faithful_model_passes_on_another_image(comparison):
    assert comparison.run(comparison.candidate(), seed=1).passes


def test_comparing_leaves_the_model_as_it_is(comparison):
    model = comparison.candidate()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    TorchGradients(model).gradients(
        np.zeros((1, *SIZE, 3), np.float32),
        output_patterns(comparison.config, 1, *SIZE),
        dtype="float32",
        training=True,
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_zeros_by_theory_are_covered_and_say_why(faithful):
    training = {result.name: result for result in faithful.of(Mode.TRAINING)}
    bias = training["fpn.resample_p6.conv.bias"]
    assert bias.verdict is Verdict.ROUNDING
    assert "cancelled by the batch norm behind it" in bias.reason
    weights = training["fpn.cells.0.nodes.0.weights"]
    assert "not above zero and so without gradient: element 1" in weights.reason
    # It acts only through that weight.
    closed = training["fpn.cells.0.nodes.2.resamples.0.conv.weight"]
    assert closed.verdict is Verdict.EXACT
    assert "a relu closes" in closed.reason
    assert closed.zero and bias.zero
    zeros = sum(result.zero for result in training.values())
    assert f"{zeros} gradients are zero by theory" in gradients_text(faithful, 200)
    inference = {result.name: result for result in faithful.of(Mode.INFERENCE)}
    assert "by theory" not in inference["fpn.resample_p6.conv.bias"].reason
    assert not inference["fpn.resample_p6.conv.bias"].zero


class Damped(torch.autograd.Function):
    """Right forward; backward loses one percent."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 0.99


class SinglePrecisionFault(Damped):
    """As above, in float32 alone."""

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (0.99 if gradient.dtype == torch.float32 else 1)


class WrongSwish(torch.autograd.Function):
    """Differentiates ``x * sigmoid(x)`` as if the gate were constant."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.sigmoid(ctx.saved_tensors[0])


class Applied(torch.nn.Module):
    """Passes a module's output through a function."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner = inner
        self.function = function

    def forward(self, *inputs):
        return self.function(self.inner(*inputs))


def apply(path, function, inner=None):
    def change(model):
        parent, _, name = path.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, name, Applied(inner or getattr(owner, name), function))

    return change


def set_epsilon(model):
    model.backbone.blocks[3].depthwise_bn.eps = 1e-5


def detach_gate(path="backbone.blocks.4.se.gate"):
    return apply(path, torch.Tensor.detach)


FAULTS = {
    "wrong epsilon": (set_epsilon, "backbone.blocks.3.depthwise_bn.weight"),
    "detached gate": (detach_gate(), "backbone.blocks.4.se.expand_conv.weight"),
    "wrong swish": (
        apply("backbone.blocks.2.depthwise_act", WrongSwish.apply, torch.nn.Identity()),
        "backbone.blocks.2.depthwise_bn.bias",
    ),
    "lost percent": (
        apply("fpn.cells.1.nodes.2.act", Damped.apply),
        "fpn.cells.1.nodes.2.weights",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_its_parameters(comparison, fault):
    change, parameter = FAULTS[fault]
    model = comparison.candidate()
    change(model)
    report = comparison.run(model, [Mode.INFERENCE])
    found = failing(report)
    assert not report.passes
    assert found[parameter].verdict is Verdict.FUNCTION_DIFFERS
    assert gradients_text(report, 200).splitlines()[-1].startswith("DIFFERENCE: ")
    # A forward fault changes the outputs, a backward one does not.
    assert ("scalar" in found) == (fault == "wrong epsilon")
    assert ("the outputs agree" in gradients_text(report, 200)) == (fault != "wrong epsilon")
    if fault == "lost percent":
        behind = [name for name in found if name.startswith(("class_head", "box_head"))]
        assert behind == []


def test_a_fault_of_float32_alone_is_pytorchs(comparison):
    model = comparison.candidate()
    apply("class_head.acts.1", SinglePrecisionFault.apply)(model)
    found = failing(comparison.run(model, [Mode.INFERENCE]))
    assert found["class_head.convs.1.pointwise.weight"].verdict is Verdict.CANDIDATE_DIFFERS
    assert "class_head.predict.pointwise.weight" not in found


def test_wrong_momentum_is_found_at_the_statistics(comparison):
    model = comparison.candidate()
    model.backbone.blocks[1].project_bn.momentum = 0.1
    found = failing(comparison.run(model, [Mode.TRAINING]))
    path = "backbone.blocks.1.project_bn"
    assert set(found) == {f"{path}.running_mean", f"{path}.running_var"}


def test_a_dead_parameter_is_not_covered():
    zero = np.zeros((3,))
    observed = Observation(zero, zero.astype(np.float32), zero, zero.astype(np.float32))
    result = judge("weight", Mode.INFERENCE, observed, Circumstances(0.0, 0.0, 100))
    assert result.verdict is Verdict.NOT_COVERED
    assert "zero on both sides" in result.reason


def judged(reference=0.0, candidate=0.0, exact=0.0, **circumstances):
    truth = np.array([3.0, 4.0])
    observed = Observation(truth, truth + reference, truth + exact, truth + exact + candidate)
    values = {"unit": 1e-6, "double_unit": 1e-15, "terms": 100, **circumstances}
    return judge("weight", Mode.INFERENCE, observed, Circumstances(**values))


@pytest.mark.parametrize(
    "values, verdict",
    [
        ({}, Verdict.EXACT),
        ({"candidate": 1e-6}, Verdict.ROUNDING),
        ({"candidate": 2e-5}, Verdict.CANDIDATE_DIFFERS),
        ({"reference": 2e-5}, Verdict.ROUNDING),
        ({"reference": 2e-4}, Verdict.REFERENCE_DIFFERS),
        ({"exact": 1e-7}, Verdict.FUNCTION_DIFFERS),
        ({"exact": 1e-7, "double_unit": 1e-6}, Verdict.NOT_COVERED),
        ({"candidate": np.nan}, Verdict.CANDIDATE_DIFFERS),
        ({"exact": np.nan}, Verdict.FUNCTION_DIFFERS),
        ({"reference": np.nan}, Verdict.NOT_COVERED),
    ],
)
def test_each_verdict_has_its_cause(values, verdict):
    assert judged(**values).verdict is verdict


def test_a_side_without_the_parameter_is_not_covered_and_another_shape_is_a_difference():
    one, two = np.ones(1), np.ones(2)
    lacking = Observation(one, one, None, None)
    extra = Observation(None, None, one, one)
    other = Observation(one, one, two, two)
    verdict = functools.partial(judge, "w", Mode.TRAINING, circumstances=Circumstances(1, 1, 1))
    assert verdict(lacking).reason == "the candidate has no such parameter"
    assert verdict(extra).reason == "the reference has no such parameter"
    assert verdict(other).reason == "its shape is [2], the reference's [1]"
    verdicts = [verdict(item).verdict for item in (lacking, extra, other)]
    assert verdicts == [Verdict.NOT_COVERED, Verdict.NOT_COVERED, Verdict.FUNCTION_DIFFERS]


def test_training_needs_more_than_one_position(comparison):
    images = np.zeros((1, 96, 128, 3), np.float32)
    subject = Subject("tiny", CHECKPOINT, "candidate", IMAGES, {})
    side = TorchGradients(comparison.candidate())
    with pytest.raises(InputError, match="single position at P7.*above 128 pixels"):
        compare_gradients(comparison.config, comparison.reference, side, images, subject)


def test_outputs_of_other_shapes_are_refused(comparison):
    class Reversed(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            return self.inner(images)[::-1]

    with pytest.raises(InputError, match="compare its nodes first"):
        comparison.run(Reversed(comparison.candidate()), [Mode.INFERENCE])


def test_variables_are_mapped_once_and_completely(comparison):
    pairs = comparison.pairs
    wanted = next(pair for pair in pairs if pair.parameter.endswith(".weights"))
    scalars = {name: np.float32(i) for i, name in enumerate(wanted.variables)}
    scalars = {name: np.asarray(value) for name, value in scalars.items()}
    mapped = map_gradients(pairs, scalars)
    assert list(mapped) == [wanted.parameter]
    assert mapped[wanted.parameter].tolist() == list(range(len(scalars)))
    with pytest.raises(ValueError, match="no parameter is made of other"):
        map_gradients(pairs, {**scalars, "other": np.zeros(1)})
    scalars.popitem()
    with pytest.raises(ValueError, match="lacks some of"):
        map_gradients(pairs, scalars)
    kernel = next(pair for pair in pairs if pair.parameter == "backbone.stem_conv.weight")
    with pytest.raises(ValueError, match="is .* not"):
        map_gradients(pairs, {kernel.variables[0]: np.zeros((1, 1, 1, 1))})


def test_patterns_give_every_output_a_weight(comparison):
    patterns = output_patterns(comparison.config, 1, *SIZE)
    assert [pattern.shape[-1] for pattern in patterns] == [63] * 5 + [36] * 5
    values = np.concatenate([pattern.reshape(-1) for pattern in patterns])
    assert np.abs(values).min() >= 0.5 and np.abs(values).max() <= 1.5
    assert np.unique(values).size > 0.99 * values.size


def test_dithering_leaves_no_constant_area():
    padded = dithered(np.zeros((1, 32, 32, 3)))
    assert np.unique(padded).size > 0.99 * padded.size
    assert np.std(padded) == pytest.approx(DITHER, rel=0.1)
    assert np.array_equal(padded, dithered(np.zeros((1, 32, 32, 3))))


def test_the_report_as_text_and_as_json(faithful):
    text = gradients_text(faithful, 200)
    assert "Batch norm in training" in text
    assert text.endswith("PARITY: both sides differentiate alike; every gradient is covered")
    narrow = gradients_text(faithful, 60)
    assert max(map(len, narrow.splitlines())) <= 60 and narrow.split() == text.split()
    values = json.loads(json.dumps(plain(faithful.result()), allow_nan=False))
    assert (values["schema"], values["version"]) == ("efficientdet-parity/gradients", 2)
    assert values["passes"] is True
    assert sum(values["counts"]["inference"].values()) == len(faithful.of(Mode.INFERENCE))
    assert len(values["gradients"]) == len(faithful.results)


def test_the_faithful_model_computes_in_both_precisions(comparison):
    """What float32 makes of sums over many positions is no rounding of the exact gradient."""
    model = comparison.candidate()
    images = torch.linspace(-1, 1, 96 * 128 * 3).reshape(1, 96, 128, 3).numpy()
    patterns = output_patterns(comparison.config, 1, 96, 128)
    found = [
        faithful_gradients(model)(images, patterns, dtype=dtype, training=False)
        for dtype in ("float32", "float64")
    ]
    single, double = (each.parameters["backbone.stem_conv.weight"] for each in found)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    assert 0 < np.abs(single - double).max() < 1e-3 * np.abs(double).max()
    assert not np.array_equal(single, double.astype(np.float32))
