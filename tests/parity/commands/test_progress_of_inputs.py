"""A comparison's progress is told in images, or in the nodes of a single input."""

import pytest

import compare
from converter.progress import reported_to


def events_of(tiny_checkpoint, *options):
    events = []
    with reported_to(events.append):
        code = compare.main(["nodes", str(tiny_checkpoint), "--contributions", "0", *options])
    assert code == 0
    return [event for event in events if event.title == "comparing"]


@pytest.fixture
def photograph(tmp_path):
    cv2 = pytest.importorskip("cv2")
    np = pytest.importorskip("numpy")
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    assert cv2.imwrite(str(path), noise)
    return path


def test_several_inputs_are_told_in_images(tiny_checkpoint, capsys):
    events = events_of(tiny_checkpoint)
    # One like a photograph, and a batch of two.
    assert {(event.unit, event.total) for event in events} == {("images", 3)}
    done = [event.done for event in events]
    assert done == sorted(done) and done[-1] == 3
    assert capsys.readouterr().err == ""


def test_one_input_is_told_in_its_nodes(tiny_checkpoint, photograph, capsys):
    events = events_of(tiny_checkpoint, "--image", str(photograph))
    nodes = int(capsys.readouterr().out.rpartition("PARITY: ")[2].split()[0])
    assert {(event.unit, event.total) for event in events} == {("nodes", nodes)}
    assert events[-1].done == nodes
