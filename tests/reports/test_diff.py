"""The page of what changed: everything is on it, none of it is markup, and a phone can show it."""

import json

import handmade
import pytest
from handmade import distance, finding, node, suspect
from shown_pages import CONTRAST, WIDTH, Page, problems

from efficientdet_spec import InputError
from parity.judge.verdict import Verdict
from parity.results.reading import read
from parity.results.records.failure import Failure
from parity.results.records.nodes_diff import DiffOutcome, NodesDiff
from parity.results.records.record import plain, write
from reports.pages import render as module
from reports.pages.diff import render_diff

HOSTILE = '"><img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>'
LONG = "backbone.blocks.12.a_name_that_is_as_long_as_names_get.project_conv"


def result(*nodes, **other):
    kept = [node("stem"), node("last")]
    return handmade.report([*nodes, *kept], **other)


@pytest.fixture
def page(tmp_path):
    """Writes two results, makes the page of them and reads it."""

    def make(before, after):
        for name, values in (("old", before), ("new", after)):
            write(tmp_path / f"{name}.json", values)
        diff = render_diff(tmp_path / "old.json", tmp_path / "new.json", tmp_path / "out")
        assert plain(read(tmp_path / "out" / "diff.json", NodesDiff)) == plain(diff)
        return diff, Page((tmp_path / "out" / "diff.html").read_text("utf-8"))

    return make


def worse(name=LONG, **other):
    """Two results, of which the second has lost a node."""
    wrong = node(name, Verdict.FUNCTION_DIFFERS, f"why {name}", own=distance(0.5))
    guilty = suspect(name, slug="zero-pad", diagnosis=f"padded {name}")
    lost = {"suspects": [guilty], "findings": [finding("eps", name, f"found {name}")], **other}
    return result(node(name)), result(wrong, **lost)


def test_everything_is_on_the_page(page):
    diff, shown = page(*worse(environment={"threads": 1}, seconds={"load": 2.5}))
    assert diff.outcome is DiffOutcome.WORSE and problems(shown) == []
    for part in (
        f"Worse : 1 node that agreed differs now: {LONG}",
        "old.json",
        "✓ parity",
        "✗ difference",
        "1 node: agreed, differs now",
        f"why {LONG}",
        f"padded {LONG}",
        f"found {LONG}",
        "no threshold",
        "threads",
        "2 times",
        "diff.json",
    ):
        assert part in shown.text, part


def test_what_forbids_a_comparison_comes_first(page):
    before, after = worse(dtype="float64")
    diff, shown = page(before, after)
    assert diff.outcome is DiffOutcome.NOT_COMPARABLE
    assert shown.text.index("float64") < shown.text.index("Verdicts")
    assert "Not comparable : type is not the same" in shown.text
    heroes = [item["class"] for item in shown.of("section") if "hero" in item.get("class", "")]
    assert heroes == ["hero not-shown"]


def test_no_change_has_no_empty_sections(page):
    diff, shown = page(result(), result())
    assert diff.outcome is DiffOutcome.NOT_WORSE and problems(shown) == []
    assert [item["id"] for item in shown.of("section")] == ["verdict", "costs"]
    assert "all 2 nodes are the same bit for bit" in shown.text


def test_a_failed_command_has_a_page_too(page):
    failed = Failure(command="compare.py nodes", cause="candidate", message=HOSTILE, exit_code=2)
    diff, shown = page(result(), failed)
    assert diff.outcome is DiffOutcome.NOT_COMPARABLE and problems(shown) == []
    assert "no result" in shown.text and HOSTILE in shown.text


def test_names_are_text(page, monkeypatch):
    _, shown = page(*worse(HOSTILE, candidate=HOSTILE, environment={HOSTILE: HOSTILE}))
    assert problems(shown) == [] and shown.text.count(HOSTILE) > 5
    make = module._environment

    def careless(addresses):
        environment = make(addresses)
        environment.autoescape = False
        return environment

    monkeypatch.setattr(module, "_environment", careless)
    assert "img onerror" in problems(page(*worse(HOSTILE))[1])


def test_long_tables_say_what_they_leave_out(page):
    many = [node(f"node.n{number}") for number in range(250)]
    changed = [node(item.name, own=distance(1e-4)) for item in many]
    _, shown = page(result(*many), result(*changed))
    assert "the first 200 of 250, all are in the result file" in shown.text


def test_what_is_compared_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    old, new = tmp_path / "out" / "diff.json", tmp_path / "new.json"
    for path in (old, new):
        write(path, result())
    before = old.read_text()
    with pytest.raises(InputError):
        render_diff(old, new, tmp_path / "out")
    assert old.read_text() == before and not (tmp_path / "out" / "diff.html").exists()


def test_a_file_that_is_no_result_leaves_nothing(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([]))
    with pytest.raises(InputError):
        render_diff(path, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_in_a_browser(browser, page, tmp_path, width, scheme):
    page(*worse(dtype="float64"))
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    opened = browser.new_page(**options)
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else complaints.append(request.url)
        ),
    )
    try:
        opened.goto(f"file://{tmp_path}/out/diff.html")
        assert opened.evaluate(WIDTH) <= width
        assert opened.evaluate(CONTRAST) == []
        box = opened.locator("h1 .sentence").bounding_box()
        assert box["y"] + box["height"] < 800
        # A name is broken only where a narrow screen leaves no room for it.
        cell = opened.locator("#verdicts td").first
        assert cell.inner_text() == LONG and cell.bounding_box()["height"] > 0
        lines = cell.evaluate(
            "(cell) => { const range = document.createRange();"
            " range.selectNodeContents(cell); return range.getClientRects().length; }"
        )
        assert width < 1400 or lines == 1
        assert complaints == []
    finally:
        opened.close()
