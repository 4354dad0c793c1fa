"""What travels to and from workers is what it should be, or one sentence."""

import json
import re

import numpy as np
import pytest
from cluster_sides import recipe

from efficientdet_spec import Cause, InputError
from parity.detections import messages
from parity.detections.annotations import CocoImage
from parity.detections.messages import (
    MAX_TEXT,
    Failed,
    Refused,
    Task,
    WorkerDefect,
    found,
    most_bytes,
    read_answer,
    read_task,
    written,
)
from parity.detections.shard_files import ImageResult, Shard
from parity.detections.shards import Work

IMAGES = [CocoImage(number, f"{number}.png", 6, 4) for number in (7, 8)]
ROW = [0.1, -1e11, 3.4e38, 2.5, 0.5, 3.0]


def answer(**changes):
    """An answer as a worker writes it, with something else in the second image or at the top."""
    second = {"image_id": 8, "failure": None, "detections": [ROW]}
    values = {
        "answer": "shard",
        "images": [{"image_id": 7, "failure": "no file", "detections": []}, second],
        "seconds": {"wall": 1.5},
    }
    (second if changes.keys() & second.keys() else values).update(changes)
    return json.dumps(values)


def test_a_shard_comes_back_bit_for_bit(tmp_path):
    rows = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32).astype(np.float64)
    rows[:, 4], rows[:, 5] = abs(rows[:, 4]) % 1, 3
    rows[0, :2] = 5e-324, 1.7976931348623157e308
    shard = Shard([ImageResult(7, np.zeros((0, 6)), "why"), ImageResult(8, rows)], {"wall": 0.25})
    read = read_answer(written(found(shard)), IMAGES, "Worker 1")
    assert [item.rows.tobytes() for item in read.images] == [
        item.rows.tobytes() for item in shard.images
    ]
    assert read.images[0].failure == "why" and read.seconds == shard.seconds
    assert json.loads(written(found(shard)))["images"][1]["detections"] == rows.tolist()


def test_a_task_comes_back(tmp_path):
    task = Task.of(recipe(text="é"), Work(tmp_path, IMAGES, 3), ["0" * 64] * 2)
    read = read_task(written(task))
    assert read == task and read.work() == Work(tmp_path, IMAGES, 3)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "truncated"),
        ("Hello", "malformed"),
        ("\0" * 99, "malformed"),
        ("[" * 100_000, "recursion|malformed|array"),
        ("null", "object"),
        (b"\xff\xfe{}", "malformed|utf-8"),
        (answer(answer="other"), "other"),
        (answer(answer=None), "str"),
        (answer(more=1), "unknown field"),
        (answer(images=[]), r"its images are \[\]"),
        (answer(image_id=9), r"its images are \[7, 9\], not those of the shard"),
        (answer(image_id=8.5), "int"),
        (answer(image_id=2**60), "<= "),
        (answer(detections=[[float("nan"), *ROW[1:]]]), "malformed"),
        (answer(detections=[[None, *ROW[1:]]]), "float"),
        (answer().replace("3.4e+38", "1e999"), "range|finite"),
        (answer().replace("3.4e+38", "9" * 400), "range|finite|malformed"),
        (answer(detections=[ROW[:5]]), "length 6"),
        (answer(detections=[[*ROW, 1.0]]), "length 6"),
        (answer(detections=[ROW] * 5001), "length <= 5000"),
        (answer(detections=[[*ROW[:4], 1.5, 1.0]]), "scores that are not from 0 to 1"),
        (answer(detections=[[*ROW[:4], -0.1, 1.0]]), "scores that are not from 0 to 1"),
        (answer(detections=[[*ROW[:5], 1.5]]), "categories that are no whole numbers"),
        (answer(failure="why"), "image 8 has failed and has detections"),
        (answer(failure="\x1b[2J", detections=[]), "characters that a terminal would obey"),
        (answer(failure="a" * (MAX_TEXT + 1), detections=[]), "length"),
        (answer(seconds={"wall": -1}), "times"),
        (answer(seconds={"\x1b": 1}), "characters that a terminal would obey"),
        (answer(seconds={str(number): 1 for number in range(99)}), "length"),
        ('{"answer":"refused","message":"\\u202e","cause":"input"}', "a terminal would obey"),
        ('{"answer":"refused","message":"why","cause":"mine"}', "mine"),
        ('{"answer":"failed","message":"why","traceback":"\\u001b"}', "a terminal would obey"),
        (" " * (most_bytes(2) + 1), "more than .* bytes"),
    ],
)
def test_no_answer_is_one_sentence(line, reason):
    with pytest.raises(InputError) as caught:
        read_answer(line, IMAGES, "Worker 3")
    text = str(caught.value)
    assert text.startswith("Worker 3 has sent something else than the detections")
    (given,) = re.findall(r"asked for \((.*?)\); nothing of it was used", text)
    assert re.search(reason, given, re.IGNORECASE), given
    assert len(text) < 1000 and text.isprintable() and caught.value.cause is Cause.NETWORK


def test_what_a_worker_cannot_do_is_said():
    with pytest.raises(InputError, match="no room") as caught:
        read_answer(written(Refused(message="no room", cause=Cause.SPACE)), IMAGES, "Worker 3")
    assert caught.value.cause is Cause.SPACE
    line = written(Failed(message="KeyError: 'x'", traceback="first\nsecond"))
    with pytest.raises(WorkerDefect, match=r"^KeyError: 'x'\nfirst\nsecond$"):
        read_answer(line, IMAGES, "Worker 3")


@pytest.mark.parametrize(
    "change", [{"batch": 0}, {"more": 1}, {"images": []}, {"recipe": {}}, {"folder": None}]
)
def test_no_task_is_one_sentence(tmp_path, change):
    task = json.loads(written(Task.of(recipe(), Work(tmp_path, IMAGES, 3), ["0" * 64] * 2)))
    with pytest.raises(InputError, match="is no task of this version .*install the same version"):
        read_task(json.dumps(task | change))


def test_a_text_is_made_printable_before_it_is_sent():
    shard = Shard([ImageResult(7, np.zeros((0, 6)), "a\x1b[2J\nb" + "c" * 9999)], {})
    (item,) = read_answer(written(found(shard)), IMAGES[:1], "Worker 1").images
    assert item.failure.startswith(r"a\x1b[2J bccc") and item.failure.isprintable()
    assert 900 < len(item.failure) < 1000


def test_messages_unpickle_nothing():
    assert "pickle" not in vars(messages)
