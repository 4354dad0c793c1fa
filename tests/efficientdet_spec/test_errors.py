"""What can be told of a mistake without reading its message."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import torch

from converter.fetch.packings import ArchiveError
from converter.fetch.sources import resolve
from converter.tensorflow_files.bundle import open_bundle
from efficientdet_spec import Cause, EfficientDetConfig, InputError, get_config, parse_size
from parity.sides.pytorch.code import Maker
from parity.sides.side import CandidateError
from torch_model.checkpoint import load_checkpoint


def test_a_mistake_without_a_cause_is_an_input() -> None:
    assert InputError("no").cause is Cause.INPUT


def test_the_kinds_of_mistake_have_their_own_cause() -> None:
    assert ArchiveError("cut short").cause is Cause.FORMAT
    assert CandidateError("raises").cause is Cause.CANDIDATE
    assert ArchiveError("no room", Cause.SPACE).cause is Cause.SPACE


def test_the_cause_crosses_a_process_with_the_message() -> None:
    error = pickle.loads(pickle.dumps(ArchiveError("no room", Cause.SPACE)))
    assert (str(error), error.cause, type(error)) == ("no room", Cause.SPACE, ArchiveError)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (FileNotFoundError(errno.ENOENT, "no such file"), Cause.FILE),
        (PermissionError(errno.EACCES, "permission denied"), Cause.FILE),
        (OSError(errno.ENOSPC, "no space left"), Cause.SPACE),
        (OSError(errno.EDQUOT, "quota exceeded"), Cause.SPACE),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), Cause.FORMAT),
        (RecursionError("too deep"), Cause.FORMAT),
    ],
)
def test_the_cause_of_what_reading_a_file_raises(error: Exception, cause: Cause) -> None:
    assert Cause.of(error) is cause


def _load_no_torch(folder: Path) -> object:
    (folder / "model.pth").write_bytes(b"nothing of the kind")
    return load_checkpoint(folder / "model.pth")


def _open_no_table(folder: Path) -> object:
    (folder / "model.index").write_bytes(b"nothing of the kind" * 10)
    return open_bundle(folder / "model")


def _failing_candidate(folder: Path) -> object:
    (folder / "own.py").write_text("def build():\n    return 1 / 0\n")
    return Maker(folder / "own.py", "build")(torch.nn.Identity(), (8, 8))


@pytest.mark.parametrize(
    ("mistake", "cause"),
    [
        (lambda folder: parse_size("wide"), Cause.OPTION),
        (lambda folder: get_config("d9"), Cause.OPTION),
        (lambda folder: EfficientDetConfig.from_dict({}), Cause.FORMAT),
        (lambda folder: get_config("d0").feature_sizes(100, 1), Cause.MODEL),
        (lambda folder: resolve(str(folder / "absent"), folder), Cause.FILE),
        (_load_no_torch, Cause.FORMAT),
        (_open_no_table, Cause.FORMAT),
        (_failing_candidate, Cause.CANDIDATE),
    ],
)
def test_where_mistakes_come_from(mistake: object, cause: Cause, tmp_path: Path) -> None:
    assert callable(mistake)
    with pytest.raises(InputError) as caught:
        mistake(tmp_path)
    assert caught.value.cause is cause


@pytest.mark.parametrize(
    "text", ["x" * 5000, "é" * 3000, "語" * 2000, "a\x1b[2J\nwrote good.pth\r\u202e" * 200]
)
def test_a_message_is_one_printable_line(text):
    """Whoever makes one need not think of what names are in it."""
    message = str(InputError(f"/there/{text} is no checkpoint; give another one."))
    assert message.isprintable() and len(message.encode()) < 1000
    assert message.startswith("/there/") and message.endswith("is no checkpoint; give another one.")
    assert str(InputError("a plain message; do this.")) == "a plain message; do this."
