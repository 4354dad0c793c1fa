"""Where a command's result goes: the result itself, or else why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from efficientdet_spec import InputError
from parity.process.console import Ended
from parity.process.files import check_writable, make_folder
from parity.results.reading import is_result
from parity.results.records.failure import Failure
from parity.results.records.record import ResultFile, write


class ResultPlace:
    """The file of a command's result, until something final is in it.

    Args:
        command: The command, for the account of a failure.
        path: The file; None where the command writes none.
    """

    def __init__(self, command: str, path: Path | None = None) -> None:
        self.expect(command, path)

    def expect(self, command: str, path: Path | None) -> None:
        """Say once more whose result it is and where it goes, as for a new place.

        Args:
            command: The command.
            path: The file; None where the command writes none.
        """
        self._command = command
        self._path = path

    def refuse(self) -> None:
        """Nothing is to be written there: it is no place for a result."""
        self._path = None

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Within it, whatever cannot be written says that this is no place for a result.

        Raises:
            InputError: What the body raises.
        """
        try:
            yield
        except InputError:
            self.refuse()
            raise

    def write(self, result: ResultFile) -> None:
        """Write the result, if there is a place for it; what goes wrong later does not undo it.

        Args:
            result: The result.

        Raises:
            InputError: The file cannot be written.
        """
        if self._path is not None:
            write(self._path, result)
            self._path = None

    def fail(self, ended: Ended) -> None:
        """Write why there is no result, unless there is one, or something else lies there.

        Args:
            ended: How the command has ended.

        Raises:
            InputError: The file cannot be written.
        """
        path = self._path
        if path is None:
            return
        make_folder(path.parent)
        check_writable(path)
        if path.exists() and not is_result(path):
            return
        failure = Failure(
            command=self._command,
            cause=ended.cause.value,
            message=ended.message,
            exit_code=ended.exit_code,
        )
        write(path, failure)
