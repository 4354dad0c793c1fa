"""Hyperparameters beside tensors: in a folder's file, or told of a single file."""

import os
from dataclasses import replace

import numpy as np
import pytest

from converter.formats.hyperparameters import unsaid
from converter.formats.registry import formats
from converter.formats.target import Values
from converter.hparams.given import Hyperparameters
from converter.hparams.plain_yaml import read_yaml, yaml_text
from converter.hparams.writing import official_values
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle_writer import write_bundle
from efficientdet_spec import CONFIG_FILE, TINY, InputError, get_config

FOLDERS = [name for name, one in formats().items() if one.write is not None and one.is_folder]
SMALL = replace(TINY, anchor_scale=0.25)
STATED = {"hyperparameters": {"assumed": {"act_type": "swish"}}}


def write(name, folder, config, provenance=()):
    arrays = {pair.parameter: np.ones(pair.shape, np.float32) for pair in iterate_pairs(config)}
    values = Values(config, arrays, provenance=dict(provenance))
    return formats()[name].write(folder, values)


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=FOLDERS)
def name(request):
    return request.param


def test_a_folder_always_gets_its_file(name, tmp_path):
    for config in (TINY, SMALL):
        done = write(name, tmp_path, config)
        assert tmp_path / CONFIG_FILE in done.files
        assert read_yaml(tmp_path / CONFIG_FILE) == official_values(config)
        assert {path.name for path in done.files} == set(os.listdir(tmp_path))


def test_what_nobody_said_stays_an_assumption(name, tmp_path):
    write(name, tmp_path, TINY, STATED)
    known = Hyperparameters.of(tmp_path / "model")
    assert set(known.assumed(TINY)) == {"act_type"} and known.named() == TINY


def test_one_of_another_model_is_neither_replaced_nor_left_to_contradict(name, tmp_path):
    path = tmp_path / CONFIG_FILE
    for text in ("anchor_scale: 3.0\n", "name: efficientdet-d0\n", "[1", "act_type: relu6"):
        path.write_text(text)
        before = content_of(tmp_path)
        with pytest.raises(InputError, match=r"config\.yaml") as caught:
            write(name, tmp_path, SMALL)
        assert content_of(tmp_path) == before and len(str(caught.value)) < 1000
    path.unlink()
    path.symlink_to(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read"):
        write(name, tmp_path, SMALL)
    assert os.listdir(tmp_path) == [CONFIG_FILE]


def test_one_that_says_the_same_stays_with_what_it_says_of_training(name, tmp_path):
    path = tmp_path / CONFIG_FILE
    text = yaml_text({**official_values(SMALL), "learning_rate": 0.01, "model_dir": "x"})
    path.write_text(text)
    done = write(name, tmp_path, SMALL)
    assert path.read_text() == text and path not in done.files
    assert any("says just this model, so it stays" in note for note in done.notes)


def test_ours_that_was_edited_is_the_users(name, tmp_path):
    write(name, tmp_path, SMALL)
    path = tmp_path / CONFIG_FILE
    path.write_text(path.read_text().replace("0.25", "0.5"))
    before = content_of(tmp_path)
    with pytest.raises(InputError, match="says something else than this model"):
        write(name, tmp_path, SMALL)
    assert content_of(tmp_path) == before


def test_another_checkpoint_does_not_get_it(name, tmp_path):
    write_bundle(tmp_path / "model.ckpt-7", {"x": np.ones(3, np.float32)})
    before = content_of(tmp_path)
    with pytest.raises(InputError, match=r"has another checkpoint \(model\.ckpt-7\.index\)"):
        write(name, tmp_path, SMALL)
    assert content_of(tmp_path) == before
    # Where there is one already that says the same, nothing changes for it.
    (tmp_path / CONFIG_FILE).write_text(yaml_text(official_values(SMALL)))
    write(name, tmp_path, SMALL)


def test_labels_that_no_file_can_hold_are_refused(name, tmp_path):
    labels = tuple((number, "x" * 40) for number in range(1, 9000))
    for wrong in (labels, ((2, "a"), (1, "b"))):
        config = replace(TINY, label_map=wrong)
        with pytest.raises(InputError, match=r"write a \.pth or \.safetensors") as caught:
            write(name, tmp_path / "new", config)
        assert len(str(caught.value)) < 1000
        assert not os.listdir(tmp_path)


def test_an_interruption_leaves_both_as_they_were(name, tmp_path, monkeypatch):
    write(name, tmp_path, TINY)
    before = content_of(tmp_path)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("converter.formats.tf1.write_bundle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(name, tmp_path, SMALL)
    assert content_of(tmp_path) == before


def test_what_is_told_of_a_single_file():
    for config in (get_config("d0"), get_config("lite3x").with_classes(3), TINY):
        assert unsaid(config) == ()
    given = "--hparams 'name=efficientdet-d0,anchor_scale=0.25'"
    small = replace(get_config("d0"), anchor_scale=0.25, num_classes=3)
    assert unsaid(small) == (
        "The file does not say its anchor_scale, which is otherwise than efficientdet-d0 has it: "
        f"give {given} when it is read.",
    )
    (told,) = unsaid(small, "effdet")
    assert told.endswith("when it is read, and give them to the model's constructor in effdet too.")
    # Widths show.
    assert unsaid(replace(TINY, fpn_channels=24)) == ()
    (told,) = unsaid(replace(TINY, fpn_channels=24), "effdet")
    assert "does not say its fpn_num_filters" in told
    (told,) = unsaid(replace(TINY, image_size=(128, 256), scale_range=True))
    assert "its image_size, scale_range, which are otherwise" in told
    assert "image_size=256x128,scale_range=true'" in told
    (told,) = unsaid(replace(TINY, label_map=((1, "a"),)))
    assert "give them with --hparams FILE.yaml when it is read, such as --to tf1" in told
    # Of two models with the same variables the name tells which it is.
    (told,) = unsaid(get_config("d7"))
    assert told == (
        "The file does not say that it is efficientdet-d7, and not efficientdet-d6: give "
        "--hparams 'name=efficientdet-d7' when it is read."
    )
