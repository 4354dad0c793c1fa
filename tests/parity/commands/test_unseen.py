"""What a verdict says that no comparison on these inputs can see."""

from parity.commands.comparing.unseen import saturation_notes


def test_what_one_input_brings_to_its_highest_value_is_seen():
    assert saturation_notes([]) == saturation_notes([{}]) == []
    assert saturation_notes([{"a": True}]) == []
    assert saturation_notes([{"a": False, "b": True}, {"a": True, "b": False}]) == []


def test_what_stays_below_on_all_inputs_is_counted():
    (note,) = saturation_notes([{"a": False, "b": True, "c": False}, {"a": False, "c": True}])
    assert note == (
        "1 of 3 activations stay below their highest value on these inputs (first a): whether the "
        "candidate keeps it there cannot be seen."
    )
