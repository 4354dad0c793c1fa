"""What nodes are compared on: files, folders, batches, a trace's own input, a generated set."""

import importlib.util
from contextlib import ExitStack
from dataclasses import replace
from math import prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from handmade import distance, node

from converter.fetch.cached import CheckpointFiles
from efficientdet_spec import OFFICIAL_MODELS, InputError, get_config
from parity.commands.asking import inputs
from parity.commands.asking.inputs import AMPLITUDE, of_arrays, plan_inputs
from parity.commands.comparing.opened import Opened
from parity.commands.comparing.trials import Trials
from parity.detections.images import PHOTOGRAPH, high_amplitude, photograph_like
from parity.judge.verdict import NodeResult, Verdict
from parity.lockstep.comparison import Comparison
from parity.lockstep.walk import PassTiming
from parity.results.records.nodes import Finding
from parity.settings.nodes import NodesSettings
from torch_model.preprocess import Normalisation, preprocess, preprocess_with_scale

needs_opencv = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed"
)
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


def settings(*images, size="96x128", **other):
    """What a comparison is told."""
    return NodesSettings(
        checkpoint="tiny", image=images, size=size, contributions=0, threads=1, **other
    )


@pytest.fixture
def plan(tiny_conversion):
    def make(*images, trace=None, **options):
        return plan_inputs(settings(*images, **options), tiny_conversion, trace)

    return make


def loaded(planned):
    """The images of inputs, after what is said about them was held against these."""
    found = []
    for item in planned:
        images, described = item.load()
        assert images.shape == item.shape == (item.batch, *item.size, 3)
        assert images.dtype == np.float32
        assert [described[key] for key in ("batch", "height", "width")] == list(item.shape[:3])
        found.append((described["source"], images))
    return found


# The generated set


def test_without_images_there_are_two_generated_inputs(plan):
    (photograph, first), (amplitude, second) = loaded(plan(size="130x201"))
    assert (photograph, amplitude) == (PHOTOGRAPH, AMPLITUDE)
    assert (first == preprocess(photograph_like(130, 201), 130, 201)[None]).all()
    # Two images, so that a leak between those of a batch shows, at an odd size.
    assert second.shape == (2, 65, 151, 3)
    for number, image in enumerate(second):
        assert (image == preprocess(high_amplitude(65, 151, number), 65, 151)).all()
    assert (second[0] != second[1]).mean() > 0.2


@pytest.mark.parametrize("model", ["efficientdet-lite0", "efficientdet-d0-advprop"])
def test_grey_levels_are_normalised_as_the_model_has_it(model):
    config = get_config(model)
    own = Normalisation.of(config)
    conversion = SimpleNamespace(config=config)
    grey = photograph_like(90, 120, 3)
    wanted = preprocess_with_scale(grey, 96, 128, normalisation=own).pixels
    assert not np.allclose(wanted, preprocess(grey, 96, 128), atol=0.01)
    (planned,) = of_arrays(grey, settings(size="96x128"), conversion, None)
    assert (planned.load()[0] == wanted).all()
    (generated, _) = plan_inputs(settings(size="96x128"), conversion, None)
    made = photograph_like(96, 128)
    wanted = preprocess_with_scale(made, 96, 128, normalisation=own).pixels
    assert (generated.load()[0] == wanted).all()


def test_the_photograph_has_the_models_size_where_none_is_given(plan, tiny_conversion):
    assert plan(size=None)[0].size == tiny_conversion.config.image_size


@pytest.mark.parametrize(
    "size, odd",
    [
        ("130x201", (65, 151)),
        ("512x512", (257, 385)),
        # Half of it would be too small.
        ("96x128", (97, 193)),
        ("65x300", (65, 451)),
    ],
)
def test_the_second_size_is_odd(plan, tiny_conversion, size, odd):
    assert plan(size=size)[1].size == odd
    assert odd[0] % 2 == odd[1] % 2 == 1
    tiny_conversion.config.feature_sizes(*odd)


def test_the_second_size_is_the_first_where_no_odd_one_is_possible(plan):
    first, second = plan(size="15x15")
    assert first.size == second.size == (15, 15)


@pytest.mark.parametrize("batch, counts", [(1, (1, 2)), (2, (2, 2)), (3, (3, 3))])
def test_a_batch_of_generated_images(plan, batch, counts):
    inputs = loaded(plan(batch=batch))
    assert tuple(len(images) for _, images in inputs) == counts
    for _, images in inputs:
        assert len({image.tobytes() for image in images}) == len(images)


def test_a_finished_graph_may_be_of_one_size_only(plan):
    first, second = plan(reference=Path("model.meta"))
    assert first.size == second.size == (96, 128) and second.batch == 2


# Files


@pytest.fixture
def pictures(tmp_path):
    """Writes images that differ and returns their paths."""
    import cv2

    def make(*names):
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            seed = len(list(tmp_path.rglob("*.*")))
            assert cv2.imwrite(str(path), photograph_like(40, 60, seed))
        return paths

    return make


@needs_opencv
def test_each_file_is_an_input_of_its_own(plan, pictures):
    paths = pictures("b.png", "a.png", "c.bmp")
    inputs = loaded(plan(*paths))
    assert [source for source, _ in inputs] == [str(path) for path in paths]
    assert len({images.tobytes() for _, images in inputs}) == 3


@needs_opencv
def test_folders_stand_for_their_images(plan, pictures, tmp_path):
    paths = pictures("z.png", "one/b.png", "one/a.png", "two/c.jpg")
    (tmp_path / "one" / "notes.txt").write_text("no image")
    inputs = loaded(plan(tmp_path / "two", paths[0], tmp_path / "one"))
    order = [paths[3], paths[0], paths[2], paths[1]]
    assert [source for source, _ in inputs] == [str(path) for path in order]


@needs_opencv
def test_a_batch_takes_images_together(plan, pictures):
    paths = pictures("a.png", "b.png", "c.png", "d.png", "e.png")
    alone = [images for _, images in loaded(plan(*paths))]
    inputs = loaded(plan(*paths, batch=2))
    assert [source for source, _ in inputs] == [
        f"{paths[0]} and 1 more", f"{paths[2]} and 1 more", str(paths[4]),
    ]  # fmt: skip
    assert [len(images) for _, images in inputs] == [2, 2, 1]
    assert (np.concatenate([images for _, images in inputs]) == np.concatenate(alone)).all()


@needs_opencv
def test_an_image_that_cannot_be_read_is_named_before_any_work(plan, pictures, tmp_path):
    paths = pictures("a.png", "b.png")
    broken = tmp_path / "c.png"
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"c\.png \(8 bytes\) is no JPEG, PNG or BMP image"):
        plan(*paths, broken)
    with pytest.raises(InputError, match=r"missing\.png cannot be read \(No such file"):
        plan(*paths, tmp_path / "missing.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no image"):
        plan(*paths, tmp_path / "empty")


def test_a_size_that_the_model_cannot_process_is_refused_first(plan, tmp_path):
    with pytest.raises(InputError, match="cannot process 1x300 pixels"):
        plan(tmp_path / "missing.png", size="1x300")


# Traces


class FakeTrace:
    """As much of a trace as an input is made of."""

    def __init__(self, images):
        self.images = images
        self.header = SimpleNamespace(
            input={"source": "recorded", "height": 96, "width": 128, "sha256": "0" * 64}
        )


@pytest.fixture
def trace():
    return FakeTrace(np.zeros((1, 96, 128, 3), np.float32))


def test_a_trace_brings_its_own_input(plan, trace):
    ((source, images),) = loaded(plan(size=None, trace=trace))
    assert source == "recorded" and images is trace.images


@needs_opencv
def test_a_trace_is_of_one_input(plan, trace, pictures):
    paths = pictures("a.png", "b.png")
    for images, batch, given in (
        (paths, None, "2 images are"),
        ([paths[0].parent], None, "2 images are"),
        (paths[:1], 2, "--batch 2 is"),
        ([], 2, "--batch 2 is"),
    ):
        for size in (None, "96x128"):
            with pytest.raises(InputError) as raised:
                plan(*images, size=size, batch=batch, trace=trace)
            assert str(raised.value) == (
                f"A trace is of one input, but {given} given; leave --image, --size and --batch "
                f"out to use the trace's own."
            )


# One after another


def fake_comparison(verdict, name="stem", runs=(), not_shown=()):
    nodes = [
        NodeResult(name, None, (1, 1, 1, 1), verdict, "made up"),
        node("sound", Verdict.EXACT, free=distance(2e-5)),
        node("none", Verdict.EXACT, free=distance(float("nan"))),
        node("last", Verdict.EXACT, free=distance(1e-5)),
    ]
    return Comparison(nodes, [PassTiming("free", 1.5)], runs=runs, not_shown=not_shown)


@pytest.fixture
def trials(tiny_checkpoint, monkeypatch):
    """Runs the trials of some inputs, of which each comparison is made up; returns them too."""
    pairings = []
    stack = ExitStack()

    def make(planned, found):
        due = iter(found)

        def compare(pairing, progress, keep):
            pairings.append(pairing)
            return next(due)

        monkeypatch.setattr("parity.lockstep.comparison.compare", compare)
        prefix = tiny_checkpoint / "model"
        files = CheckpointFiles(prefix, str(prefix), None)
        opened = stack.enter_context(Opened(settings(), files))
        result = Trials(opened, planned, lambda size: opened.faithful)
        seconds = {"load": 1.0}
        result.run(seconds)
        assert seconds["free pass"] == 1.5 * len(planned)
        return result, pairings

    with stack:
        yield make


@needs_tensorflow
def test_elements_are_counted_over_all_inputs_and_both_sides(plan, trials):
    planned = plan()
    planned.append(planned[0])
    sound = [fake_comparison(Verdict.EXACT) for _ in planned]
    result, pairings = trials(planned, sound)
    shapes = [item.shape for item in planned]
    references = [result._opened.reference(shape) for shape in shapes]
    elements = 2 * sum(
        prod(shape) for reference in references for shape in reference.sizes.values()
    )
    assert [pairing.elements for pairing in pairings] == [elements] * 3
    # A graph, and the faithful model on a shape, are prepared once for each shape.
    assert references[0] is references[2] is not references[1]
    assert pairings[0].referee is pairings[2].referee is not pairings[1].referee
    # More elements leave more to chance.
    images = pairings[0].images
    alone = pairings[0].referee.sitting(images)
    assert alone._factor < pairings[0].referee.sitting(images, elements)._factor


@needs_tensorflow
def test_only_the_input_that_tells_most_keeps_its_outputs(plan, trials):
    planned = plan()
    returned = [np.zeros((1, 2, 2, 3), np.float32)]
    found = [replace(fake_comparison(Verdict.EXACT), outputs=returned) for _ in planned]
    result, _ = trials(planned, found)
    assert [list(item.outputs) for item in result._comparisons] == [[]] * len(planned)
    assert result.telling.comparison.outputs is returned


@needs_tensorflow
def test_the_input_that_tells_most_is_the_first_of_the_worst(plan, trials):
    odd = Finding("not-repeatable", "the candidate", "it is odd")
    found = [
        fake_comparison(Verdict.EXACT),
        fake_comparison(Verdict.NOT_COVERED, not_shown=["one"]),
        fake_comparison(Verdict.FUNCTION_DIFFERS, runs=[odd]),
        fake_comparison(Verdict.CANDIDATE_DIFFERS, "other", runs=[odd], not_shown=["two"]),
    ]
    result, _ = trials(plan()[:1] * 4, found)
    assert [item.outcome for item in result.results()] == [
        "parity", "not shown", "difference", "difference",
    ]  # fmt: skip
    # NaN is larger than any number.
    assert {item.largest_node for item in result.results()} == {"none"}
    first = result.telling.comparison.nodes[0]
    assert (first.verdict, first.input) == (Verdict.FUNCTION_DIFFERS, 2)
    worst = [item for item in result.nodes if item.verdict is not Verdict.EXACT]
    assert [(item.name, item.verdict, item.input) for item in worst] == [
        ("stem", Verdict.FUNCTION_DIFFERS, 2),
        ("other", Verdict.CANDIDATE_DIFFERS, 3),
    ]
    # What is said of every input is said once.
    assert result.runs == [odd] and result.not_shown == ["one"]


@pytest.mark.parametrize("model", OFFICIAL_MODELS)
def test_no_level_of_the_second_generated_input_is_square(model):
    config = get_config(model)
    height, width = inputs._odd_size(config, config.image_size)
    assert height % 2 == width % 2 == 1
    sizes = config.feature_sizes(height, width)
    assert all(h != w for h, w in sizes.values())
