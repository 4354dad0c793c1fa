"""What comparisons and evaluations return."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.process.console import PLAIN_WIDTH
from parity.process.outcome import Outcome
from parity.results.records.record import ResultFile, write

if TYPE_CHECKING:
    from parity.gradients.comparison import GradientsReport
    from parity.results.records.coco import CocoResult
    from parity.results.records.detect import DetectResult
    from parity.results.records.names import NamesResult
    from parity.results.records.nodes import Finding, NodesResult, Suspect


@dataclass(frozen=True)
class _Result:
    record: Any = field(repr=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.sentence}>"

    @property
    def outcome(self) -> Outcome:
        """Parity, difference, or not shown: only the first is proof."""
        found: Outcome = self.record.outcome
        return found

    @property
    def passes(self) -> bool:
        """Whether parity was shown; false also where something could not be compared."""
        return self.outcome is Outcome.PARITY

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        return str(self.record.sentence)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the result as the command line does, see ``docs/results.md``.

        Args:
            path: The file; it appears complete or not at all.

        Raises:
            InputError: It cannot be written.
        """
        record: ResultFile = self.record
        write(Path(path).expanduser(), record)

    def assert_parity(self) -> None:
        """Raise unless parity was shown.

        Raises:
            AssertionError: The message says what differs, or what could not be compared.
        """
        __tracebackhide__ = True
        if not self.passes:
            raise AssertionError(self.sentence)

    def __bool__(self) -> bool:
        """Refused: whether a result exists is easily taken for whether it passes.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a result is neither true nor false; ask for .passes or .outcome")


@dataclass(frozen=True, repr=False)
class Comparison(_Result):
    """A comparison of every node.

    Attributes:
        record: All of it, as :meth:`to_json` writes it: each node's figures and verdict, inputs,
            coverage, contributions, versions.
    """

    record: NodesResult = field(repr=False)
    _names: NamesResult = field(repr=False)
    _paths: Mapping[str, str] = field(repr=False, default_factory=dict)
    _gradients: GradientsReport | None = field(repr=False, default=None)

    @property
    def suspects(self) -> Sequence[Suspect]:
        """Where what fails begins, the most harmful first."""
        return self.record.suspects

    @property
    def findings(self) -> Sequence[Finding]:
        """What is wrong with the candidate whatever its tensors are."""
        return self.record.findings

    def text(self, *, verbose: bool = False, width: int = PLAIN_WIDTH) -> str:
        """What the command line prints.

        Args:
            verbose: With all nodes and all reasons.
            width: Columns of a line.
        """
        from parity.gradients.text import gradients_text
        from parity.results.text.nodes import nodes_text

        return nodes_text(
            self.record,
            verbose=verbose,
            width=width,
            paths=self._paths,
            further=gradients_text(self._gradients, width) if self._gradients else "",
        )

    def write_names(self, path: str | os.PathLike[str]) -> None:
        """Write what of the candidate makes which node, as the setting ``names`` reads it.

        Args:
            path: The file; it appears complete or not at all.

        Raises:
            InputError: It cannot be written.
        """
        write(Path(path).expanduser(), self._names)

    def assert_parity(self) -> None:
        """Raise unless parity was shown.

        Raises:
            AssertionError: The message begins with the worst culprit and what is wrong there.
        """
        from parity.results.text.lead import accusation

        __tracebackhide__ = True
        if not self.passes:
            raise AssertionError("\n".join([*accusation(self.record), self.sentence]))


@dataclass(frozen=True, repr=False)
class Evaluation(_Result):
    """COCO metrics of both sides, and every detection of one matched with the other's.

    Attributes:
        record: All of it, as :meth:`to_json` writes it.
    """

    record: CocoResult = field(repr=False)

    @property
    def ap(self) -> dict[str, float]:
        """COCO's AP by side, 0 to 1; empty where the annotations have no boxes.

        The sides are ``tensorflow`` and ``torch``, or ``candidate`` in its place.
        """
        found = {name: metrics.get("AP") for name, metrics in self.record.metrics.items()}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, repr=False)
class Drawn(_Result):
    """Both sides' detections in single images, drawn and compared.

    Attributes:
        record: All of it, as :meth:`to_json` writes it.
    """

    record: DetectResult = field(repr=False)
