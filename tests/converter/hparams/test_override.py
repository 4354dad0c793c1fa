"""The text of --hparams means what the official code makes of it."""

import hparams_goldens
import pytest

from converter.hparams.override import MAX_LENGTH, parse_text
from efficientdet_spec import InputError

ROWS = [row for row in hparams_goldens.read("override.json")["rows"] if "text" in row]

MORE_THAN_OFFICIAL = {
    "image_size=(512,640)": {"image_size": (512, 640)},
    "image_size=[512,640]": {"image_size": [512, 640]},
    "image_size='512,640'": {"image_size": "512,640"},
    "aspect_ratios=[1.0,2.0]": {"aspect_ratios": [1.0, 2.0]},
    "label_map={1:'cat',2:'dog'}": {"label_map": {1: "cat", 2: "dog"}},
}
"""What the official code gives up on, since it splits at every comma."""


def is_plain(value):
    """Whether no value is of a Python type that hyperparameters do not have."""
    if isinstance(value, dict):
        return not {"python", "set"} & set(value) and all(map(is_plain, value.values()))
    return all(map(is_plain, value)) if isinstance(value, list | tuple) else True


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "parsed" in row], ids=lambda row: row["text"]
)
def test_what_the_official_code_reads(row):
    found = parse_text(row["text"])
    if is_plain(row["parsed"]):
        # repr tells 1 from 1.0 and from True.
        assert repr(found) == repr(row["parsed"])
    else:
        # Complex numbers, bytes and sets stay texts, which every hyperparameter refuses.
        assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize(
    "text", [row["text"] for row in ROWS if "parse_error" in row and row["text"]]
)
def test_what_it_refuses(text):
    if text in MORE_THAN_OFFICIAL:
        assert parse_text(text) == MORE_THAN_OFFICIAL[text]
        return
    with pytest.raises(InputError, match="key=value pairs with commas between them"):
        parse_text(text)


def test_commas_in_brackets_and_quotes_belong_to_the_value():
    text = "aspect_ratios=[[1.4,0.7],(1.0,1.0)],label_map={1:'a,b'},act_type=relu6"
    assert parse_text(text) == {
        "aspect_ratios": [[1.4, 0.7], (1.0, 1.0)],
        "label_map": {1: "a,b"},
        "act_type": "relu6",
    }


@pytest.mark.parametrize(
    "text",
    [
        "a=[1,2",
        "a=1,2]",
        "a='1,2",
        "a=[1,b]",
        "x" * (MAX_LENGTH + 1),
        ".".join("abcdefghij") + "=1",
    ],
)
def test_what_is_no_text_of_hyperparameters_is_one_sentence(text):
    with pytest.raises(InputError) as caught:
        parse_text(text)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["0x" + "f" * 4000, "9" * 5000, "-" * 3000 + "1", "[" * 3000])
def test_values_that_python_chokes_on_stay_texts(text):
    assert parse_text(f"num_classes={text}") == {"num_classes": text}
