"""What is written about results is made of the records, and no field goes without a meaning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import UNSET, UnsetType

from parity.judge.verdict import Verdict
from parity.results import documentation
from parity.results.records.record import Figure, Record, ResultFile, says

ROOT = Path(__file__).parents[3]


def toy(meaning="how many", kind=int, **limits):
    """A kind of result file with one field and a record within it."""

    class InnerResult(Record, frozen=True):
        """What is within.

        It goes on.
        """

        verdict: Annotated[Verdict, says("which")]
        figures: Annotated[Sequence[Figure | None], says("all of them")]

    class ToyResult(ResultFile, kw_only=True, frozen=True):
        """A toy."""

        schema: Annotated[Literal["efficientdet-parity/toy"], says("what")] = (
            "efficientdet-parity/toy"
        )
        version: Annotated[Literal[7], says("which")] = 7
        count: Annotated[kind, says(meaning, **limits)]
        inner: Annotated[Mapping[str, InnerResult] | UnsetType, says("by name")] = UNSET

    # Names that only this function knows are not found in the text of an annotation.
    namespace = {"InnerResult": InnerResult, "kind": kind, "meaning": meaning, "limits": limits}
    globals().update(namespace)
    return ToyResult


def test_what_is_committed_is_what_the_records_give():
    for path, text in documentation.files(ROOT).items():
        assert path.read_text("utf-8") == text, f"{path.name} is out of date; run make docs"
    there = {path.name for path in (ROOT / documentation.SCHEMAS).iterdir()}
    assert there == {documentation.schema_name(kind) for kind in documentation.FILES}


def records():
    seen = set()
    for kind in documentation.FILES:
        yield kind
        yield from documentation._within(kind, seen)


@pytest.mark.parametrize("kind", list(records()), ids=lambda kind: kind.__name__)
def test_every_field_has_a_meaning(kind):
    for name, hint, meaning in documentation._fields(kind):
        assert meaning and not meaning.endswith("."), name
        assert "|" not in meaning, f"{name}: a bar would end the cell of the table"
        documentation.in_words(hint)


def test_a_toy_has_its_table():
    assert documentation.tables(toy()).splitlines() == [
        "| field | type | meaning |",
        "|---|---|---|",
        "| `schema` | `efficientdet-parity/toy` | what |",
        "| `version` | `7` | which |",
        "| `count` | whole number | how many |",
        "| `inner` | object of [inner](#inner); may be absent | by name |",
        "",
        "#### Inner",
        "",
        "What is within. It goes on.",
        "",
        "| field | type | meaning |",
        "|---|---|---|",
        "| `verdict` | `exact`, `rounding`, `candidate differs`, `reference differs`, "
        "`function differs`, `right on its own inputs` or `not covered` | which |",
        "| `figures` | list of number or null | all of them |",
    ]


def test_another_meaning_limit_or_type_changes_what_is_written():
    plain = toy()
    text = f"{documentation._BEGIN.format('efficientdet-parity/toy')}\nold\n{documentation._END}\n"
    once = documentation.page(text, [plain])
    assert "old" not in once and documentation.page(once, [plain]) == once
    schema = documentation.schema(plain)
    told = toy("how few")
    assert documentation.page(text, [told]) == once.replace("how many", "how few") != once
    assert documentation.schema(told) != schema
    assert documentation.schema(toy(ge=1)) != schema
    assert "| `count` | text | how many |" in documentation.page(text, [toy(kind=str)])


def test_a_page_without_a_place_for_a_table_is_refused():
    with pytest.raises(ValueError, match="efficientdet-parity/toy"):
        documentation.page("# Results\n", [toy()])


def test_names_of_records():
    assert documentation.title(type("SelfCheckResult", (), {})) == "Self check"
    assert documentation.title(type("Node", (), {})) == "Node"
