"""Pages as tests see them: their markup, and what a browser says of their look."""

import base64
import json
import zlib
from html.parser import HTMLParser

SCRIPTS = {"theme.js", "echarts.min.js", "charts.js", "report.js", "payload.js"}
"""All that a page may run."""

WIDTH = "document.scrollingElement.scrollWidth"
"""How wide a page is, for a browser to compute: more than the screen is an overflow."""

CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const wrong = [];
  for (const element of document.querySelectorAll('main *, header *, nav *')) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('svg') || element.disabled) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) wrong.push(`${element.textContent.slice(0, 30)} ${ratio}`);
  }
  return wrong;
}"""
"""Texts whose contrast with their ground is too low, for a browser to find."""


class Page(HTMLParser):
    """What a browser sees in a page: elements with their attributes, texts, packed data."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self.data = {}
        self._script = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._script = dict(attributes) if tag == "script" else None

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def handle_data(self, text):
        if self._script is None:
            self.texts.append(text)
        elif "id" in self._script:
            packed_text = base64.b64decode(text, validate=True)
            self.data[self._script["id"]] = json.loads(zlib.decompress(packed_text))

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def problems(page):
    """Whatever in a page is not ours: scripts, handlers, addresses elsewhere, broken anchors."""
    found = []
    for tag, attributes in page.elements:
        found += [f"{tag} {name}" for name in attributes if name.startswith("on")]
        for name in ("href", "src"):
            address = attributes.get(name) or ""
            if "://" in address or address.startswith(("//", "javascript:")):
                found.append(f"{tag} {name} {address}")
    for attributes in page.of("script"):
        source = attributes.get("src", "")
        if source and source.removeprefix("assets/") not in SCRIPTS:
            found.append(f"script {source}")
        if not source and attributes.get("type") != "application/json":
            found.append("script inline")
    found += [f"img {item['src']}" for item in page.of("img") if item["src"] == "x"]
    ids = page.ids()
    found += [f"id {name} twice" for name in set(ids) if ids.count(name) > 1]
    anchors = [item.get("href") or "" for item in page.of("a")]
    found += [
        f"anchor {address}"
        for address in anchors
        if address.startswith("#") and "=" not in address and address[1:] not in ids
    ]
    return found
