"""What a layer reads is said with care where the candidate's structure is another."""

import pytest

from parity.diagnosis.suspects import cautious
from parity.judge.verdict import Verdict
from parity.results.records.nodes import READS_OTHER, REWIRINGS, Statement, Suspect

DIFFERS = Verdict.FUNCTION_DIFFERS
READS = Suspect(["a.fuse"], DIFFERS, 1, 1, READS_OTHER, "reads b instead of c")
NAMED = Suspect(["a.bn"], DIFFERS, 1, 1, "batch-norm-epsilon", "batch norm with epsilon 1e-05")


@pytest.mark.parametrize("slug", sorted(REWIRINGS))
def test_where_layers_may_be_taken_for_others_it_is_a_condition(slug):
    reads, named = cautious([READS, NAMED], [Statement(slug=slug, text="")])
    assert reads.diagnosis == (
        "reads b instead of c, unless the layer is taken for the wrong node, as may be where the "
        "structure is another"
    )
    assert named == NAMED and reads.slug == READS.slug


@pytest.mark.parametrize("statements", [[], [Statement(slug="stride-other", text="")]])
def test_elsewhere_it_is_a_fact(statements):
    assert cautious([READS, NAMED], statements) == [READS, NAMED]
