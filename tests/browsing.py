"""Opens a page in the browser and notes what it complains of."""

from contextlib import contextmanager

READY = "document.querySelectorAll('#node-table tbody tr').length > 0"


@contextmanager
def opened(browser, path, anchor="", **options):
    """A page with everything it complained of and asked the network for."""
    options = {"viewport": {"width": 1280, "height": 800}, **options}
    page = browser.new_page(**options)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else page.complaints.append(request.url)
        ),
    )
    try:
        page.goto(f"file://{path}{anchor}")
        if path.name != "index.html":
            page.wait_for_function(READY)
        yield page
    finally:
        page.close()
