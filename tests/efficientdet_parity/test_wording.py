"""Messages that programs are told."""

import pytest

import efficientdet_parity as ep
from efficientdet_parity.wording import as_arguments
from efficientdet_spec import InputError
from parity.settings.nodes import NodesSettings


@pytest.mark.parametrize(
    "said, told",
    [
        ("give a smaller --size, or --image", "give a smaller size, or images"),
        ("say with --stage-swap", "say with --stage-swap"),
        ("as of --tf32; a --b", "as of tf32; a --b"),
    ],
)
def test_options_become_arguments(said, told):
    with pytest.raises(InputError) as caught, as_arguments(NodesSettings, {"image": "images"}):
        raise InputError(said)
    assert str(caught.value) == told


def test_a_size_that_no_model_can_process(tiny_checkpoint):
    with pytest.raises(InputError, match="is no image size") as caught:
        ep.compare(checkpoint=tiny_checkpoint, size="640")
    assert "--" not in str(caught.value)


def test_a_mistake_of_the_command_line_is_one_of_the_librarys(tiny_checkpoint, tmp_path):
    nowhere = tmp_path / "nowhere.jpg"
    with pytest.raises(InputError) as caught:
        ep.compare(checkpoint=tiny_checkpoint, images=[str(nowhere)], dtype="float32")
    assert str(nowhere) in str(caught.value) and "--" not in str(caught.value)
