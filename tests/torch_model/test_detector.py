"""From files and arrays to boxes; every stage of a profile is used."""

import copy
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from made_images import waves

from efficientdet_spec import Cause, InputError
from torch_model.checkpoint import load
from torch_model.detector import BATCHES_AHEAD, Detector
from torch_model.profiles import OFFICIAL, STAGES, get_profile, with_stages


@pytest.fixture(scope="module")
def model(tiny_pth):
    return load(tiny_pth)


def same(one, other):
    return one.boxes.shape == other.boxes.shape and all(
        (getattr(one, name) == getattr(other, name)).all()
        for name in ("boxes", "scores", "classes")
    )


def detect(model, profile, images, **options):
    return list(Detector(model, profile, **options).detect(images))


def test_files_bytes_and_arrays_give_the_same(model, tmp_path):
    image = waves(90, 150)
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    path = tmp_path / "ü.png"
    path.write_bytes(data)
    found = detect(model, OFFICIAL, [image, data, path, str(path)])
    assert len(found) == 4 and len(found[0].scores) == 100
    assert all(same(found[0], other) for other in found[1:])
    assert (np.diff(found[0].scores) <= 0).all()


def test_images_of_a_batch_do_not_mix(model):
    images = [waves(90, 150), waves(200, 60, seed=3), waves(128, 128, seed=5)]
    singly = list(Detector(model).detect(images))
    together = list(Detector(model).detect(images, batch=2))
    assert len(together) == 3
    for one, other in zip(singly, together, strict=True):
        # Batches may be summed in another order.
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert not same(singly[0], singly[1])


@pytest.mark.parametrize("batch", [1, 2])
def test_images_prepared_beforehand_give_the_same(model, batch):
    detector = Detector(model)
    images = [waves(90, 150), waves(200, 60, seed=3), waves(128, 128, seed=5)]
    found = list(detector.detect(images, batch))
    inputs = [detector.preprocess(image) for image in images]
    groups = [inputs[start : start + batch] for start in range(0, 3, batch)]
    expected = [item for group in groups for item in detector.detect_inputs(group)]
    assert len(found) == 3
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


class Watched(Detector):
    """Counts the images prepared so far and remembers the threads that did it."""

    def __init__(self, model):
        super().__init__(model)
        self.prepared, self.threads = 0, set()

    def preprocess(self, image):
        self.threads.add(threading.current_thread())
        self.prepared += 1
        return super().preprocess(image)


def test_images_are_prepared_ahead_but_not_far(model):
    detector = Watched(model)
    taken = 0
    for number, _ in enumerate(detector.detect([waves(40, 60)] * 24, batch=2)):
        taken = number // 2 * 2 + 2
        assert detector.prepared <= taken + 2 * BATCHES_AHEAD
    assert taken == detector.prepared == 24
    assert len(detector.threads) == 1 and threading.current_thread() not in detector.threads


@pytest.mark.parametrize("cores, beside", [(1, False), (64, True)])
@pytest.mark.parametrize("batch", [1, 3])
def test_images_are_prepared_beside_the_network_only_on_free_cores(
    model, cores, beside, batch, monkeypatch
):
    monkeypatch.setattr("torch_model.detector.os.cpu_count", lambda: cores)
    detector, before = Watched(model), []
    ended = threading.Event()

    def entering(*_):
        before.append(detector.prepared)
        if beside and len(before) == 1:
            # The next are prepared although the network does not go on.
            assert ended.wait(30)

    def preprocess(image, real=detector.preprocess):
        found = real(image)
        if detector.prepared > batch:
            ended.set()
        return found

    monkeypatch.setattr(detector, "preprocess", preprocess)
    hook = model.register_forward_pre_hook(entering)
    try:
        assert len(list(detector.detect([waves(40, 60)] * 9, batch))) == 9
    finally:
        hook.remove()
    if not beside:
        # Each time as many as go in, and no others meanwhile.
        assert before == list(range(batch, 10, batch))


def test_several_processes_find_the_same(model, tmp_path):
    torch.manual_seed(0)
    images = [waves(90, 150, seed=seed) for seed in range(9)]
    data = cv2.imencode(".png", images[3][..., ::-1])[1].tobytes()
    (tmp_path / "4.png").write_bytes(cv2.imencode(".png", images[4][..., ::-1])[1].tobytes())
    given = [*images[:3], data, tmp_path / "4.png", *images[5:]]
    detector = Detector(model, get_profile("official-tf-nms"), size=(128, 256))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = list(detector.detect(images, 2))
        found = list(detector.detect(given, 2, processes=2))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 9
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))
    assert found[0].profile == detector.profile
    assert not multiprocessing.active_children()


def test_a_mistake_in_another_process_is_a_mistake(model):
    images = [waves(40, 60)] * 4 + [b"no image"] + [waves(40, 60)] * 40
    found = Detector(model).detect(images, processes=2)
    assert len([next(found) for _ in range(4)]) == 4
    with pytest.raises(InputError, match="no JPEG, PNG or BMP") as raised:
        next(found)
    assert raised.value.cause is Cause.FORMAT
    assert not multiprocessing.active_children()


class Deadly:
    """Ends the process that opens it."""

    def __reduce__(self):
        return exit, (7,)


def test_a_process_that_ends_is_told_of(model):
    from torch_model.processes import detect_in_processes

    with pytest.raises(InputError, match="2 processes ended.*__main__") as raised:
        list(detect_in_processes(Deadly(), [waves(40, 60)], 1, 2))
    assert raised.value.cause is Cause.SPACE


def test_the_thread_ends_with_its_consumer(model):
    detector = Watched(model)
    found = detector.detect([waves(40, 60)] * 20)
    next(found)
    found.close()
    assert detector.prepared <= 1 + BATCHES_AHEAD
    assert len(detector.threads) == 1 and not any(t.is_alive() for t in detector.threads)


def test_images_before_one_that_fails_are_detected(model):
    detector = Watched(model)
    found = detector.detect([waves(40, 60), waves(40, 60), b"", waves(40, 60)])
    assert len([next(found), next(found)]) == 2
    with pytest.raises(InputError, match="no JPEG, PNG or BMP"):
        next(found)
    assert not any(thread.is_alive() for thread in detector.threads)


def test_boxes_are_in_pixels_of_the_original(model):
    # A factor of 2 in the image is one in the boxes where the input is the same.
    image = waves(128, 128)
    large = np.repeat(np.repeat(image, 2, 0), 2, 1)
    small, double = detect(model, OFFICIAL, [image, large])
    assert Detector(model).preprocess(large).scale == 2
    np.testing.assert_allclose(double.boxes[:5], 2 * small.boxes[:5], rtol=0.05, atol=8)


SAME = {
    "normalisation": {"exported", "imagenet"},
    "aspects": {"sqrt"},
    "nms": {"soft"},
}
"""Variants that are, for a model with the default hyperparameters, what the official one is."""


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_changes_the_result(model, stage):
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(waves(90, 150)), 80)
    expected = detect(model, OFFICIAL, [data])[0]
    for variant in STAGES[stage]:
        if variant != OFFICIAL.stages()[stage]:
            profile = with_stages(OFFICIAL, {stage: variant})
            found = detect(model, profile, [data])[0]
            assert same(found, expected) == (variant in SAME.get(stage, ())), variant
            assert found.profile == profile


def test_clipping_ends_at_the_networks_input(model):
    image = waves(90, 150)
    found = detect(model, get_profile("interactive"), [image])[0]
    side = 128 * np.float32(150 / 128)
    assert found.boxes.min() == 0 and found.boxes.max() <= side


def test_another_size(model):
    detector = Detector(model, size=(128, 256))
    assert detector.preprocess(waves(50, 50)).pixels.shape == (128, 256, 3)
    assert len(list(detector.detect([waves(50, 50)]))) == 1
    with pytest.raises(InputError, match="cannot process"):
        Detector(model, size=(16, 256))


def test_the_network_runs_where_it_is_told(model):
    assert Detector(model, device="cpu").device == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cannot run on device 'cuda'"):
            Detector(model, device="cuda")
    with pytest.raises(InputError, match="cannot run on device 'gpu'"):
        Detector(model, device="gpu")


def test_mistakes(model, tmp_path):
    with pytest.raises(InputError, match="missing.png cannot be read"):
        detect(model, OFFICIAL, [tmp_path / "missing.png"])
    with pytest.raises(InputError, match="uint8"):
        detect(model, OFFICIAL, [np.zeros((4, 4), np.uint8)])
    with pytest.raises(InputError, match="batch of 0"):
        list(Detector(model).detect([], batch=0))
    with pytest.raises(InputError, match="0 processes"):
        Detector(model).detect([], processes=0)
    assert detect(model, OFFICIAL, []) == []


def test_the_optimised_form_finds_the_same(model):
    images = [waves(90, 150), waves(200, 60, seed=3), waves(128, 128, seed=5)]
    eager = list(Detector(model).detect(images, batch=2))
    detector = Detector(model, form="optimized")
    detector.prepare(2)
    found = list(detector.detect(images, batch=2))
    for one, other in zip(eager, found, strict=True):
        assert (one.classes == other.classes).all()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
    # The last batch has one image: blank ones fill it up, and nothing is compiled for it.
    assert len(detector.model._programs) == 1
    assert same(found[2], next(iter(detector.detect(images[2:], batch=2))))


def test_a_form_that_there_is_not(model):
    with pytest.raises(InputError, match="no form 'fast' of a model; give eager or optimized"):
        Detector(model, form="fast")


def test_no_images_are_no_mistake_and_no_batch_is_one(model):
    detector = Detector(model, form="optimized")
    assert detector.detect_inputs([]) == [] and list(detector.detect([])) == []
    with pytest.raises(InputError, match="A batch of 0 images is empty"):
        detector.prepare(0)


def test_single_images_are_not_filled_up_to_an_earlier_batch(model):
    detector = Detector(model, form="optimized")
    images = [waves(90, 150), waves(128, 128, seed=5)]
    list(detector.detect(images, batch=2))
    list(detector.detect(images[:1]))
    assert sorted(key[0][0] for key in detector.model._programs) == [1, 2]


def test_what_was_found_before_a_broken_image_is_not_lost(model):
    images = [waves(90, 150)] * 6 + [b"no image"]
    for processes in (1, 2):
        found = Detector(model).detect(images, processes=processes)
        assert len([next(found) for _ in range(6)]) == 6
        with pytest.raises(InputError, match="image"):
            next(found)


def test_a_model_that_cannot_be_sent_is_said(model):
    hooked = copy.deepcopy(model)
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="cannot be sent to other processes"):
        next(Detector(hooked).detect([waves(90, 150)], processes=2))


UNGUARDED = """
import sys
from torch_model.checkpoint import load
from torch_model.detector import Detector
list(Detector(load(sys.argv[1])).detect([b"none"] * 8, processes=2))
"""

INTERRUPTED = """
import os, signal, sys, threading, time
from torch_model.checkpoint import load
from torch_model.detector import Detector
import numpy as np
if __name__ == "__main__":
    images = [np.zeros((96, 128, 3), np.uint8)] * 10000
    found = Detector(load(sys.argv[1])).detect(images, processes=2)
    next(found)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    for _ in found:
        pass
"""


@pytest.mark.parametrize(
    "program, said",
    [(UNGUARDED, "call detect behind `if __name__"), (INTERRUPTED, "KeyboardInterrupt")],
)
def test_several_processes_end_with_their_program(tiny_pth, tmp_path, program, said):
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, str(path), str(tiny_pth)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        # A program that is run in the background may have been told to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0 and said in done.stderr
