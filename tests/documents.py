"""The documents as tests see them: their blocks, and what they link to."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
"""All documents that a reader of this project is led to."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PROGRAM = re.compile(
    r"^(\$ )?(efficientdet-parity|python compare\.py|python convert\.py) (.*)$", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: The document.
        line: Its first line, which begins with 1.
        language: As the document says; empty where it does not.
        text: The code.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self):
        """The file that a comment in the first line says it is; None for none."""
        found = re.match(r"# (\w+\.\w+)\n", self.text)
        return found and found[1]


def blocks(page, language=None):
    """The blocks of a document, in order.

    Args:
        page: Its name.
        language: Only blocks in this one; None for all.
    """
    text = (ROOT / page).read_text("utf-8")
    found = [
        Block(page, text.count("\n", 0, item.start(2)) + 1, item[1], item[2])
        for item in _FENCE.finditer(text)
    ]
    return [block for block in found if language in (None, block.language)]


def prose(text):
    """A document's text without its blocks and without code within lines."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def links(page):
    """What a document links to, addresses on the network aside."""
    found = _LINK.findall(prose((ROOT / page).read_text("utf-8")))
    return [link for link in found if "://" not in link]


def anchors(path):
    """What can stand behind # in a link to a document: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    seen = {}
    for heading in headings:
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        seen[name] = seen.get(name, -1) + 1
        if seen[name]:
            seen[f"{name}-{seen[name]}"] = 0
    return set(seen)


def dead_links(page):
    """The links of a document that lead nowhere."""
    dead = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


def command_lines(page):
    """The commands of this project that a document shows: of each its program and the rest.

    Where a block marks what is typed by ``$``, all else is what was printed.
    """
    found = []
    for block in blocks(page):
        text = re.sub(r"\\\n\s*", "", block.text)
        marked = text.startswith("$ ") or "\n$ " in text
        for prompt, program, line in _PROGRAM.findall(text):
            if prompt or not marked:
                found.append((program, line.partition("  #")[0].strip()))
    return found
