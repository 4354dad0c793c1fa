"""The pages in a real browser: what a reader sees, does, and is safe from."""

import pytest
from browsing import opened
from shown_pages import CONTRAST, WIDTH

# It waits for what must come to hold: pages answer after the click that asks, and later on a busy
# machine.
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.mark.parametrize("name", ["index", "faithful", "broken", "large"])
def test_it_loads_without_complaint_or_network(browser, pages, name):
    with opened(browser, pages / f"{name}.html") as page:
        page.wait_for_timeout(300)
        assert page.complaints == []


REQUEST = "http://127.0.0.1:8999/x"
COMPLAIN = f"console.error('wrong'); fetch('{REQUEST}').catch(() => 0)"


def test_a_complaint_would_be_seen(browser, pages):
    with opened(browser, pages / "faithful.html") as page:
        # The page's own policy refuses the request, and says so.
        with page.expect_console_message(lambda message: REQUEST in message.text):
            page.evaluate(COMPLAIN)
        assert "wrong" in page.complaints
        assert REQUEST not in page.complaints


def test_a_request_would_be_seen(browser, pages):
    with opened(browser, pages / "faithful.html", bypass_csp=True) as page:
        with page.expect_request(REQUEST):
            page.evaluate(COMPLAIN)
        assert REQUEST in page.complaints


def test_the_fault_is_on_the_first_screen(browser, pages):
    with opened(browser, pages / "broken.html") as page:
        link = page.locator("#verdict a", has_text="fpn.resample_p6.pool").first
        box = link.bounding_box()
        assert box["y"] + box["height"] < 800
        expect(page.locator("#verdict")).to_contain_text("Difference: the port is not right")
        expect(page.locator(".answers")).to_contain_text("the function broken of")
        link.click()
        expect(page.locator("#panel-name")).to_have_text("fpn.resample_p6.pool")
        expect(page.locator("#panel")).to_contain_text("function differs")


def test_searching_filtering_sorting_and_grouping(browser, pages):
    with opened(browser, pages / "broken.html") as page:
        # Rows are made as they are scrolled to; how many there are is said above the table.
        rows, shown = page.locator("#node-table tbody tr"), page.locator("#shown")
        everything = shown.inner_text()
        page.fill("#search", "resample_p6")
        expect(shown).not_to_have_text(everything)
        assert 0 < rows.count() < 10
        page.fill("#search", "")
        expect(shown).to_have_text(everything)
        page.select_option("#filter-verdict", "function differs")
        expect(rows).to_have_count(1)
        page.select_option("#filter-verdict", "")
        expect(shown).to_have_text(everything)
        header = page.locator("#node-table th[aria-sort]").first
        before = rows.first.locator("a.name").inner_text()
        header.locator("button").focus()
        page.keyboard.press("Enter")
        expect(header).to_have_attribute("aria-sort", "descending")
        expect(rows.first.locator("a.name")).not_to_have_text(before)
        page.check("#group")
        expect(page.locator("#node-table tbody.group").first).to_contain_text("backbone")


def test_the_panel_opens_from_drawing_and_hash_and_closes_by_key(browser, pages):
    with opened(browser, pages / "faithful.html") as page:
        part = page.locator("svg.structure a.part").first
        part.click()
        expect(page.locator("#panel")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#panel")).to_be_hidden()
    with opened(browser, pages / "faithful.html", "#node=backbone.stem_bn") as page:
        expect(page.locator("#panel-name")).to_have_text("backbone.stem_bn")


def test_charts_are_drawn(browser, pages):
    with opened(browser, pages / "faithful.html") as page:
        for name in ("depth-roundings", "histogram"):
            page.locator(f"[data-chart='{name}']").scroll_into_view_if_needed()
            page.wait_for_selector(f"[data-chart='{name}'] svg path", state="attached")


PLACE = """(node) => {
  const place = document.querySelector("[data-chart='depth-roundings']");
  const chart = echarts.getInstanceByDom(place);
  const option = chart.getOption();
  const index = option.xAxis[0].data.indexOf(node);
  const series = option.series.findIndex((item) => item.name === "PyTorch: function differs");
  const [x, y] = chart.convertToPixel({ seriesIndex: series }, option.series[series].data[0].value);
  const { left, top } = place.getBoundingClientRect();
  return [left + x, top + y, index];
}"""


def test_a_click_on_a_chart_opens_the_node(browser, pages):
    with opened(browser, pages / "broken.html") as page:
        chart = page.locator("[data-chart='depth-roundings']")
        chart.scroll_into_view_if_needed()
        page.wait_for_selector("[data-chart='depth-roundings'] svg path", state="attached")
        page.evaluate(
            "document.querySelector(\"[data-chart='depth-roundings']\").scrollIntoView("
            "{block: 'center'})"
        )
        page.wait_for_timeout(300)
        x, y, index = page.evaluate(PLACE, "fpn.resample_p6.pool")
        assert index >= 0
        page.mouse.click(x, y)
        expect(page.locator("#panel-name")).to_have_text("fpn.resample_p6.pool")


@pytest.mark.parametrize("name", ["index", "faithful", "broken", "hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_no_overflow(browser, pages, name, scheme):
    options = {"viewport": {"width": 390, "height": 800}, "color_scheme": scheme}
    with opened(browser, pages / f"{name}.html", **options) as page:
        assert page.evaluate(WIDTH) <= 390
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('hr'),"
            " {style: 'width: 900px'}))"
        )
        assert page.evaluate(WIDTH) > 390


GROUND = """['body', 'html'].map((name) => getComputedStyle(document.querySelector(name)))
  .map((style) => style.backgroundColor.match(/[\\d.]+/g).map(Number))
  .find((levels) => levels.length === 3 || levels[3] > 0).slice(0, 3)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser, pages, scheme):
    with opened(browser, pages / "broken.html", color_scheme=scheme) as page:
        page.wait_for_timeout(300)
        levels = page.evaluate(GROUND)
        assert (max(levels) < 80) == (scheme == "dark")
        assert page.evaluate(CONTRAST) == []
        page.evaluate(
            "document.querySelector('#verdict p, #verdict h1').style.color ="
            " getComputedStyle(document.body).backgroundColor"
        )
        assert page.evaluate(CONTRAST) != []


BLAME = "document.querySelector('#verdict a').textContent"
MARKUP = "<img src=x onerror='window.hacked=1'>"


@pytest.mark.parametrize("name", ["index", "hostile"])
def test_names_are_text(browser, pages, name):
    # Without the policy that forbids scripts in markup, so that it is the escaping that is tested.
    with opened(browser, pages / f"{name}.html", bypass_csp=True) as page:
        if name == "hostile":
            page.evaluate(f"location.hash = '#node=' + encodeURIComponent({BLAME})")
            expect(page.locator("#panel")).to_be_visible()
            page.locator("#depth").scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src='x']").count() == 0
        page.evaluate(f'document.body.insertAdjacentHTML("beforeend", "{MARKUP}")')
        page.wait_for_function("window.hacked === 1")


def test_two_thousand_nodes_open_at_once(browser, pages):
    """The requirement is 2 seconds; the best of five is what the page takes, not the machine."""
    times = []
    for _ in range(5):
        with opened(browser, pages / "large.html") as page:
            times.append(page.evaluate("performance.now()"))
            assert page.locator("#shown").inner_text().startswith(("2,", "2"))
    assert min(times) < 2000
