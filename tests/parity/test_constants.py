"""Every number that a verdict rests on stands in the table of ``docs/limits.md``."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = (
    "judge.limits",
    "judge.means",
    "judge.verdict",
    "judge.reach",
    "judge.operations.operation",
    "judge.operations.activation",
    "judge.operations.batch_norm",
    "judge.operations.convolution",
    "judge.operations.mean",
    "judge.operations.products",
    "judge.operations.selection",
    "results.coverage",
    "lockstep.repetition",
    "judge.measure",
    "judge.tally",
    "judge.threefold",
    "lockstep.walk",
    "lockstep.pairing",
    "lockstep.free",
    "lockstep.isolated",
    "lockstep.measuring",
    "lockstep.comparison",
    "diagnosis.suspects",
    "diagnosis.examination",
    "gradients.comparison",
    "gradients.inputs",
    "gradients.verdict",
    "detections.matching",
    "coco.report",
    "sides.pytorch.exact",
    "gradients.pytorch",
    "sides.pytorch.referee",
    "diagnosis.structure",
    "sides.pytorch.wrappers",
    "faults.basics.case",
    "faults.diagnosis",
    "faults.basics.distance",
    "faults.basics.operations",
    "faults.basics.fault",
    "faults.catalogue",
    "diagnosis.places",
)
PLAIN = 10
"""Whole numbers below it count, index or halve; they are no thresholds."""

NO_THRESHOLDS = {"VERSION", "SCHEMA_VERSION"}


def numbers(tree):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, (int, float))
        and not isinstance(node.value, bool)
    ]


def constants(source):
    """The named numeric constants of a module and the lines of numbers that have no name."""
    tree = ast.parse(source)
    named, seen = {}, set()
    for statement in tree.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            found = numbers(statement.value)
            if found and isinstance(target, ast.Name) and target.id not in NO_THRESHOLDS:
                named[target.id] = statement.value
            seen.update(map(id, found))
    # An equation of a test cannot be written without 1 and 2, nor a half without 0.5.
    unnamed = [
        (node.lineno, node.value)
        for node in numbers(tree)
        if id(node) not in seen
        and not (isinstance(node.value, int) and abs(node.value) < PLAIN)
        and node.value not in (0.0, 0.5, 1.0, 2.0)
    ]
    return named, unnamed


def source_of(module):
    return (ROOT / "parity" / f"{module.replace('.', '/')}.py").read_text("utf-8")


def documented():
    """Value as text by module and constant."""
    text = (ROOT / "docs" / "limits.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| `(\w+)` \| ([^|]+) \| (.+) \|$", text, re.MULTILINE)
    return {(module, name): (value.strip(), reason) for module, name, value, reason in rows}


@pytest.mark.parametrize("module", MODULES)
def test_every_constant_stands_in_the_table(module):
    table = documented()
    named, unnamed = constants(source_of(module))
    assert unnamed == [], "give the number a name and a row in docs/limits.md"
    for name, expression in named.items():
        assert (module, name) in table, f"{module}.{name} is not in docs/limits.md"
        value, reason = table[module, name]
        parts = [float(part) for part in value.split(",")]
        found = eval(compile(ast.Expression(expression), module, "eval"), {"__builtins__": {}})
        assert parts == pytest.approx(
            [float(x) for x in (found if isinstance(found, tuple) else [found])]
        )
        assert len(reason) > 10


def test_the_table_has_no_constant_that_is_gone():
    for module, name in documented():
        assert name in constants(source_of(module))[0], f"{module}.{name} is gone"


@pytest.mark.parametrize(
    "source, named, unnamed",
    [
        ("LIMIT = 16", {"LIMIT"}, []),
        ("LIMIT: float = 1 << 4", {"LIMIT"}, []),
        ("def f(x):\n    return x > 1e-8", set(), [(2, 1e-8)]),
        ("def f(x):\n    return x[2] / 2", set(), []),
        ("def f(x):\n    return x > 16", set(), [(2, 16)]),
        ("VERSION = 3", set(), []),
    ],
)
def test_the_check_sees_what_it_should(source, named, unnamed):
    found, without = constants(source)
    assert (set(found), without) == (named, unnamed)
