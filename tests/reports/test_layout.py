"""Charts and tables are whole at any width, nothing lies over another, on paper too."""

import made_results as made
import pytest
from browsing import opened

from reports.pages.render import render

pytest.importorskip("playwright.sync_api")

WIDTHS = [1400, 390]

DRAWN = """() => [...document.querySelectorAll('[data-chart]')]
  .filter((place) => place.clientWidth > 0 && !place.querySelector('svg path')).length === 0"""

# Of every text in a chart: whether all of it lies within the chart, and which others it touches.
LABELS = """() => {
  const wrong = [];
  for (const place of document.querySelectorAll('[data-chart]')) {
    const edge = place.getBoundingClientRect();
    if (edge.width === 0) continue;
    // A name that has no room is moved far out of sight.
    const texts = [...place.querySelectorAll('svg text')].filter((item) => item.textContent.trim()
      && item.getBoundingClientRect().right > -1000);
    const boxes = texts.map((item) => item.getBoundingClientRect());
    for (const [i, box] of boxes.entries()) {
      const name = `${place.dataset.chart}: ${texts[i].textContent}`;
      if (/\\.\\.\\.|…/.test(texts[i].textContent)) wrong.push(`${name} is shortened`);
      const inside = box.left >= edge.left - 1 && box.right <= edge.right + 1
        && box.top >= edge.top - 1 && box.bottom <= edge.bottom + 1;
      if (!inside) wrong.push(`${name} is cut`);
      for (const [j, other] of boxes.entries()) {
        if (j <= i) continue;
        const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
        const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
        // Lines of letters have some air above and below.
        if (across > 1 && down > 4) wrong.push(`${name} lies over ${texts[j].textContent}`);
      }
    }
  }
  return wrong;
}"""

NAMES = """(id) => [...document.querySelectorAll(`[data-chart='${id}'] svg text`)]
  .map((item) => item.textContent)"""

# Of elements with text of their own: those whose text is wider than they are.
CUT = """() => [...document.querySelectorAll('main *, header *')]
  .filter((item) => item.checkVisibility() && !item.closest('svg, .nodes, select, details.data'))
  .filter((item) => [...item.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
  .filter((item) => {
    const box = item.getBoundingClientRect();
    return item.scrollWidth > item.clientWidth + 1 && getComputedStyle(item).display !== 'inline'
      || box.right > innerWidth + 1 || box.left < -1;
  })
  .map((item) => `${item.tagName} ${item.textContent.slice(0, 60)}`)"""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The page of results made by hand that have everything, with an evaluation off by little."""
    folder = tmp_path_factory.mktemp("evaluated")
    comparison = made.nodes(failing=True)
    comparison["closeups"] = [made.closeup("backbone.stem_bn")]
    names = ["backbone.blocks.10.depthwise_conv", "class_head.predict.pointwise@P3", "a.b"]
    comparison["contributions"] = [
        {"nodes": [name], "share": 0.5, "size": 0.5} for name in names
    ] + [{"nodes": names, "share": 1.0, "size": 1.0}]
    coco = made.coco(delta=-0.00013)
    titles = ["TensorFlow's NMS, one class after another, without an offset of one pixel", "BGR"]
    row = coco["stage_swap"]["rows"][0]
    coco["stage_swap"]["rows"] = [{**row, "title": title} for title in titles]
    made.write_all(folder / "results", nodes=comparison, coco=coco)
    render(folder / "results", folder / "out")
    return folder / "out" / "efficientdet-d0.html"


def view(width):
    return {"viewport": {"width": width, "height": 850}}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["faithful", "broken", "evaluated"])
def test_labels_of_charts_are_whole_and_apart(browser, pages, evaluated, name, width):
    path = evaluated if name == "evaluated" else pages / f"{name}.html"
    with opened(browser, path, **view(width)) as page:
        page.wait_for_function(DRAWN)
        assert page.evaluate(LABELS) == []
        page.evaluate(
            "document.querySelectorAll('[data-chart] svg text').forEach((item) =>"
            " { item.textContent = 'n'.repeat(300); })"
        )
        assert page.evaluate(LABELS) != []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_name_of_an_axis_is_left_out(browser, evaluated, width):
    with opened(browser, evaluated, **view(width)) as page:
        page.wait_for_function(DRAWN)
        assert set(made.METRICS) <= set(page.evaluate(NAMES, "coco-metrics"))
        shares = page.evaluate(NAMES, "contributions")
        assert {"backbone.blocks.10.depthwise_conv", "these 3 together"} <= set(shares)
        bins = page.evaluate(NAMES, "histogram")
        assert {"0", "≤ 0.0625", "≤ 8", "≤ 16", "≤ 100"} <= set(bins)
        # Broken into lines where it must be, but all there.
        swaps = "".join(page.evaluate(NAMES, "coco-swaps")).replace(" ", "")
        assert "oneclassafteranother,withoutanoffsetofonepixel" in swaps


@pytest.mark.parametrize("name", ["index", "faithful", "broken", "evaluated"])
def test_nothing_is_cut_on_a_phone(browser, pages, evaluated, name):
    path = evaluated if name == "evaluated" else pages / f"{name}.html"
    with opened(browser, path, **view(390)) as page:
        page.wait_for_timeout(300)
        assert page.evaluate(CUT) == []
        page.evaluate(
            "document.querySelector('h1').style.cssText = 'white-space: nowrap; overflow: hidden'"
        )
        page.evaluate("document.querySelector('h1').append('n'.repeat(100))")
        assert page.evaluate(CUT) != []


def test_charts_are_drawn_without_scrolling(browser, evaluated):
    with opened(browser, evaluated, **view(1400)) as page:
        page.wait_for_function(DRAWN)
        assert page.evaluate("scrollY") == 0
        assert page.locator("[data-chart] svg path").count() > 50


SCALED = """() => [...document.querySelectorAll('[data-chart]')]
  .filter((place) => place.clientWidth > 0)
  .map((place) => [place, place.querySelector('svg')])
  .filter(([place, svg]) => !svg || !svg.querySelector('path')
    || svg.getBoundingClientRect().width > place.clientWidth + 1
    || svg.getBoundingClientRect().height > place.clientHeight + 1)
  .map(([place]) => place.dataset.chart)"""


@pytest.mark.parametrize("screen", WIDTHS)
def test_charts_are_on_paper_and_as_wide_as_it(browser, evaluated, screen):
    """Printed at once, without a look at any of them; 718 pixels are what A4 leaves."""
    with opened(browser, evaluated, **view(screen)) as page:
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 718, "height": 1000})
        page.wait_for_function(DRAWN)
        assert page.evaluate(SCALED) == []
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 718


def test_no_card_for_what_was_not_made(browser, pages):
    with opened(browser, pages / "faithful.html") as page:
        values = page.locator(".fact .value").all_inner_texts()
        assert values and "–" not in values
        assert page.locator("#coco").count() == 0
