"""Comparisons from a program: live modules, arrays and paths, and what they leave behind."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from faults.fusion import zero_padded
from torch import nn

import efficientdet_parity as ep
from parity.detections.images import photograph_like
from parity.process.outcome import Outcome

SIZE = (128, 128)
QUICK = {"contributions": 0, "diagnose": 0}
"""For who asks which images were compared, and not what was found."""
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint, tiny_pth):
    """The tiny checkpoint, open; a converted model computes for it, which needs no TensorFlow."""
    with ep.open_reference(tiny_checkpoint, reference=tiny_pth, threads=1) as opened:
        yield opened


@pytest.fixture
def model(tiny_pth):
    return ep.load(tiny_pth)


@pytest.fixture
def wrong(model):
    """A port whose max-pools pad with zeros."""
    for name, module in model.named_modules():
        if name.startswith("fpn.") and name.endswith(".pool"):
            module.forward = lambda x, size, pool=module: zero_padded(pool, x, size)
    return model


class Halved(nn.Module):
    """Hides a model's modules from the comparison, and returns a part of its outputs only."""

    def __init__(self, model):
        super().__init__()
        self.hidden = [model]
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return self.hidden[0](images)[0]


def photograph(seed=0):
    return photograph_like(100, 140, seed)


def network_input(batch=1):
    shape = (batch, *SIZE, 3)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def process_settings():
    """What of PyTorch holds for a whole process."""
    cudnn = torch.backends.cudnn
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "tf32": (torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32),
        "cudnn": (cudnn.benchmark, cudnn.deterministic),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }


def state(model):
    """Everything of a module that a comparison could change."""
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "places": {name: value.data_ptr() for name, value in model.state_dict().items()},
        "kinds": {name: (v.dtype, v.device) for name, v in model.state_dict().items()},
        "training": {name: module.training for name, module in model.named_modules()},
        "wants": {name: value.requires_grad for name, value in model.named_parameters()},
        "hooks": {
            name: [
                len(getattr(module, attribute))
                for attribute in vars(module)
                if attribute.endswith("_hooks")
            ]
            for name, module in model.named_modules()
        },
        "forwards": {name for name, m in model.named_modules() if "forward" in vars(m)},
    }


def assert_same_state(model, before):
    after = state(model)
    assert {k: v for k, v in after.items() if k != "values"} == {
        k: v for k, v in before.items() if k != "values"
    }
    for name, value in before["values"].items():
        assert torch.equal(after["values"][name], value), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_live_module_stays_as_it_is(tiny_checkpoint, tiny_pth, model, dtype):
    first, *_ = model.parameters()
    first.grad = torch.ones_like(first)
    first.requires_grad_(False)
    before, settings = state(model), process_settings()
    result = ep.compare(
        model, tiny_checkpoint, reference=tiny_pth, dtype=dtype, images=network_input(), threads=1
    )
    assert result.passes and result.record.dtype == dtype
    assert_same_state(model, before)
    assert process_settings() == settings
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(value.grad is None for value in list(model.parameters())[1:])


def test_batch_norms_in_training_do_not_keep_what_they_have_counted(reference, model):
    model.train()
    before = state(model)
    result = reference.compare(model, images=network_input(batch=2), diagnose=5)
    assert result.outcome is Outcome.DIFFERENCE
    assert_same_state(model, before)


def test_a_module_that_fails_stays_as_it_is_too(reference, model):
    def fail(images):
        raise RuntimeError("out of order")

    model.class_head.forward = fail
    before, settings = state(model), process_settings()
    with pytest.raises(ep.InputError, match="out of order") as caught:
        reference.compare(model, images=network_input())
    assert caught.value.cause is ep.Cause.CANDIDATE
    assert_same_state(model, before)
    assert process_settings() == settings


def test_photographs_and_paths_are_the_same_images(reference, tmp_path):
    cv2 = pytest.importorskip("cv2")
    paths = [tmp_path / f"{seed}.png" for seed in range(2)]
    for seed, path in enumerate(paths):
        assert cv2.imwrite(str(path), photograph(seed)[:, :, ::-1])
    photographs = [photograph(seed) for seed in range(2)]
    by_array, by_path, by_name, by_folder = (
        [item.sha256 for item in reference.compare(size=SIZE, images=images, **QUICK).record.inputs]
        for images in (photographs, paths, str(paths[0]), tmp_path)
    )
    assert by_array == by_path == by_folder
    assert by_name == by_path[:1]


def test_arrays_can_be_given_in_several_ways(reference):
    def inputs(images, **settings):
        found = reference.compare(size=SIZE, images=images, **QUICK, **settings).record.inputs
        return [(item.batch, item.height, item.width) for item in found]

    assert inputs(photograph()) == [(1, *SIZE)]
    assert inputs(np.stack([photograph(0), photograph(1)]), batch=2) == [(2, *SIZE)]
    assert inputs(photograph(seed) for seed in range(2)) == 2 * [(1, *SIZE)]
    assert inputs(network_input(batch=2)) == [(2, *SIZE)]


def test_the_network_input_itself_needs_no_size(reference):
    (item,) = reference.compare(images=network_input()).record.inputs
    assert (item.height, item.width, item.source) == (*SIZE, "given as an array")


@pytest.mark.parametrize(
    "images, said",
    [
        ([], "No image is given"),
        (5, "images is of type int"),
        (np.array(5), "images is of type ndarray"),
        ([photograph().astype(np.float32)], r"\[100, 140, 3\] of float32"),
        ([photograph()[:, :, 0]], r"\[100, 140\] of uint8"),
        ([[[1, 2], [3]]], "of type list cannot be taken as an array"),
        ([photograph(), "photo.jpg"], "of <U9"),
        (network_input().transpose(0, 3, 1, 2), r"\[1, 3, 128, 128\].*colours last"),
        (network_input()[:0], r"\[0, 128, 128, 3\]"),
        (network_input() * np.nan, "not finite"),
        (network_input()[:, :64], "64x128, but size says 128x128"),
    ],
)
def test_images_that_are_none(reference, images, said):
    with pytest.raises(ep.InputError, match=said) as caught:
        reference.compare(size=SIZE, images=images)
    assert caught.value.cause is ep.Cause.OPTION


@pytest.mark.parametrize(
    "candidate, cause, said",
    [
        (5, ep.Cause.CANDIDATE, "of type int"),
        (nn.Linear, ep.Cause.CANDIDATE, "of type type"),
        (nn.Linear(2, 2, device="meta"), ep.Cause.CANDIDATE, "meta device"),
        ("missing.pth", ep.Cause.FILE, "missing.pth does not exist"),
    ],
)
def test_candidates_that_are_none(reference, candidate, cause, said):
    with pytest.raises(ep.InputError, match=said) as caught:
        reference.compare(candidate, images=network_input())
    assert caught.value.cause is cause


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"json": "r.json"}, "use the methods of the result"),
        ({"write_names": "n.json"}, "use the methods of the result"),
        ({"verbose": True}, "use the methods of the result"),
        ({"image": "photo.jpg"}, "give images"),
        ({"dtype": "float64"}, "belongs to the opening"),
        ({"checkpoint": "other"}, "belongs to the opening"),
        ({"diagnoze": 1}, "did you mean diagnose"),
        ({"size": "12"}, "12"),
        ({"batch": 0}, "^batch is 0"),
    ],
)
def test_settings_that_do_not_belong_there(reference, settings, said):
    with pytest.raises(ep.InputError, match=said) as caught:
        reference.compare(**settings)
    assert caught.value.cause is ep.Cause.OPTION


def test_checkpoints_that_are_none(tmp_path):
    with pytest.raises(ep.InputError, match="No checkpoint") as caught:
        ep.compare()
    assert caught.value.cause is ep.Cause.OPTION
    for call in (ep.compare, lambda *_, **settings: ep.open_reference(settings["checkpoint"])):
        with pytest.raises(ep.InputError, match="nowhere") as caught:
            call(None, checkpoint=tmp_path / "nowhere")
        assert caught.value.cause is ep.Cause.FILE
    with pytest.raises(ep.InputError, match="no setting 'size'"):
        ep.open_reference(tmp_path, size=SIZE)
    with pytest.raises(ep.InputError, match="use the methods"):
        ep.compare(checkpoint=tmp_path, junit="r.xml")


@needs_tensorflow
def test_a_trace_is_only_compared_with_what_was_recorded(
    reference, tiny_checkpoint, model, tmp_path
):
    pytest.importorskip("h5py")
    import compare

    trace = tmp_path / "trace.h5"
    assert compare.main(["record", str(tiny_checkpoint), str(trace), "--size", "128x128"]) == 0
    with ep.open_reference(tiny_checkpoint, reference=trace) as recorded:
        own = recorded.compare(model)
        assert own.passes
        with pytest.raises(ep.InputError, match="another input|other input|image"):
            recorded.compare(model, images=network_input())
        with pytest.raises(ep.InputError, match="A trace is of one input, but 2"):
            recorded.compare(model, images=[photograph(0), photograph(1)], size=SIZE)


def test_the_culprit_and_what_is_wrong_there_come_first(reference, wrong):
    result = reference.compare(wrong, size=SIZE)
    with pytest.raises(AssertionError) as caught:
        result.assert_parity()
    first, *_, last = str(caught.value).splitlines()
    assert first.startswith("fpn.resample_p6.pool: padded with zeros instead of -inf")
    assert "do first" not in first and "pad its input with float('-inf')" in str(caught.value)
    assert last == result.sentence
    assert result.suspects[0].nodes[0] == "fpn.resample_p6.pool"
    assert result.suspects[0].diagnosis and not result.passes


def test_what_is_not_shown_is_no_parity(reference, model):
    result = reference.compare(Halved(model), images=network_input())
    assert result.outcome is Outcome.NOT_SHOWN and not result.passes
    with pytest.raises(AssertionError) as caught:
        result.assert_parity()
    assert str(caught.value).endswith(result.sentence)


def test_a_result_is_neither_true_nor_false(reference):
    result = reference.compare(images=network_input())
    result.assert_parity()
    with pytest.raises(TypeError, match=r"\.passes"):
        assert result
    assert "PARITY" in result.text() and len(result.text(verbose=True)) > len(result.text())
    assert len(repr(result)) < 200


@needs_tensorflow
# Half a minute, for what the tests of gradients and of texts show in parts.
@pytest.mark.heavy
def test_what_was_found_is_written_as_names(reference, model, tmp_path):
    class Port(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.neck = model.backbone, model.fpn
            self.classes, self.boxes = model.class_head, model.box_head

        def forward(self, images):
            features = self.neck(self.body(images))
            return self.classes(features), self.boxes(features)

    path = tmp_path / "names.json"
    result = reference.compare(Port().eval(), images=network_input())
    result.write_names(path)
    written = json.loads(path.read_text())["nodes"]
    assert written["backbone.stem_conv"]["path"] == "body.stem_conv"
    again = reference.compare(Port().eval(), images=network_input(), names=path)
    assert again.passes and result.passes
    again.write_names(path)
    assert json.loads(path.read_text())["nodes"] == written


def test_gradients_are_in_the_text(tiny_checkpoint):
    images = [photograph()]
    # The exact values are differentiated too, and sooner than the graph.
    result = ep.compare(
        checkpoint=tiny_checkpoint,
        reference="exact",
        images=images,
        size=(136, 136),
        backward=True,
        contributions=0,
    )
    assert "Gradients of efficientdet-tiny" in result.text()
    assert result.record.gradients


def test_nothing_is_printed(reference, wrong, capfd):
    result = reference.compare(wrong, images=network_input())
    result.text()
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_a_callback(reference, wrong, capfd):
    events = []
    reference.compare(wrong, images=network_input(), progress=events.append)
    assert all(isinstance(event, ep.ProgressEvent) for event in events)
    assert {"comparing", "diagnosing"} <= {event.title for event in events}
    last = [event for event in events if event.title == "comparing"][-1]
    assert last.done == last.total
    assert capfd.readouterr() == ("", "")


def without_surroundings(result):
    """A result without what differs from run to run."""
    from parity.results.records.record import plain

    values = plain(result.record)
    for name in ("seconds", "peak_memory_bytes", "environment"):
        del values[name]
    for item in values["inputs"]:
        del item["seconds"]
    return values


@needs_tensorflow
def test_an_open_reference_is_built_once_and_says_the_same(
    tiny_checkpoint, model, tmp_path, monkeypatch
):
    import reference_tf

    built = []
    build = reference_tf.build
    monkeypatch.setattr(
        reference_tf, "build", lambda *a, **options: built.append(a) or build(*a, **options)
    )
    images = network_input()
    apart = [ep.compare(model, tiny_checkpoint, images=images, threads=1) for _ in range(2)]
    assert len(built) == 2
    with ep.open_reference(tiny_checkpoint, threads=1) as opened:
        together = [opened.compare(model, images=images) for _ in range(2)]
        assert len(built) == 3
    first, *others = map(without_surroundings, [*apart, *together])
    assert all(other == first for other in others)
    with pytest.raises(ep.InputError, match="has been closed"):
        opened.compare(model, images=images)


def test_notes_on_noise_stay_with_the_comparison_that_asked_for_them(reference):
    noisy = reference.compare(images=network_input(), noise=True).record
    quiet = reference.compare(images=network_input()).record
    again = reference.compare(images=network_input(), noise=True).record
    assert noisy.noise and noisy.reference.notes == again.reference.notes
    assert not quiet.noise and len(quiet.reference.notes or ()) < len(noisy.reference.notes)


def test_a_number_that_goes_with_the_image_is_described_and_no_name(tiny_checkpoint, model):
    def on_top(module, inputs, output):
        return output + 0.05 * output.mean()

    model.fpn.cells[0].nodes[6].bn.register_forward_hook(on_top)
    images = [photograph(), 255 - photograph()]
    result = ep.compare(
        model, tiny_checkpoint, reference="exact", images=images, size=SIZE, contributions=0
    )
    (suspect,) = result.record.suspects
    assert suspect.slug is None and not result.passes
    assert "so on this input, and otherwise on another" in suspect.evidence[0]
    alone = ep.compare(
        model, tiny_checkpoint, reference="exact", images=images[:1], size=SIZE, contributions=0
    )
    (suspect,) = alone.record.suspects
    assert suspect.slug == "offset"
    assert "fitted to this input alone" in " ".join(suspect.evidence), suspect
