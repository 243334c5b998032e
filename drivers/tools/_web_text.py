"""The text of a page: what a reader sees, with its headings, lists and links."""

import re
import string
from html import unescape
from urllib.parse import urljoin

SKIPPED = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "select"})
BLOCKS = frozenset(
    [
        "p",
        "div",
        "section",
        "article",
        "header",
        "footer",
        "main",
        "aside",
        "nav",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "table",
        "tr",
        "blockquote",
        "pre",
        "figure",
        "figcaption",
        "form",
        "br",
        "hr",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "title",
    ]
)
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
TAG = re.compile(r"<(?P<end>/?)(?P<name>[a-z!?][a-z0-9]*)")
HREF = re.compile(r"""\bhref\s*=\s*(?P<to>"[^"]*"|'[^']*'|[^\s>"']+)""", re.IGNORECASE)
SPACE, BREAKS = re.compile(r"\s+"), re.compile(r"\n[\s]*\n")
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
"""Others may become longer when they are lowered."""
LONGEST = 4096
"""Characters of a tag in which its link is looked for."""
CHARSETS = re.compile(
    r"utf-?8|utf-?16(-?[lb]e)?|us-ascii|ascii|latin-?1|iso-8859-\d+|windows-\d+|cp\d+|koi8-[ru]"
    r"|gb2312|gbk|gb18030|big5|shift_jis|euc-(jp|kr)|iso-2022-jp",
    re.ASCII,
)
"""Names of encodings of text that browsers know; Python has others that do more than decode."""


def decoded(data: bytes, charset: str) -> str:
    """As text; what cannot be read is shown as such."""
    known = charset.strip().lower()
    if not CHARSETS.fullmatch(known):
        known = "utf-8"
    try:
        return data.decode(known, "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


class Reader:
    """Takes the text out of HTML, however broken, in one pass.

    The parser of Python's own library needs minutes for 64 KB of `<a <a <a`.
    """

    def __init__(self, base: str) -> None:
        self.title = ""
        self._base = base
        self._parts: list[str] = []
        self._links: list[str] = []
        self._is_title = self._is_pre = False

    def read(self, html: str) -> None:
        at, lower = 0, html.translate(LOWER)
        while (opened := html.find("<", at)) >= 0:
            self._take(html[at:opened])
            if lower.startswith("<!--", opened):
                at = _past(lower, "-->", opened + 4)
                continue
            tag = TAG.match(lower, opened)
            if tag is None:
                self._parts.append("<")
                at = opened + 1
                continue
            at = _past(lower, ">", tag.end())
            name, attributes = tag["name"], html[tag.end() : min(at, tag.end() + LONGEST)]
            if name in SKIPPED and not tag["end"]:
                at = _past(lower, f"</{name}", at)
            elif tag["end"]:
                self._end(name)
            else:
                self._start(name, attributes)
        self._take(html[at:])

    def _start(self, name: str, attributes: str) -> None:
        self._is_title = name == "title"
        self._is_pre = self._is_pre or name == "pre"
        if name in BLOCKS:
            self._parts.append("\n")
        if name in HEADINGS:
            self._parts.append("#" * int(name[1]) + " ")
        elif name == "li":
            self._parts.append("- ")
        elif name == "a":
            href = HREF.search(attributes)
            self._links.append(self._target(unescape(href["to"].strip("\"'")) if href else ""))
            self._parts.append("[" if self._links[-1] else "")

    def _end(self, name: str) -> None:
        self._is_title = False
        self._is_pre = self._is_pre and name != "pre"
        if name == "a" and self._links:
            target = self._links.pop()
            self._parts.append(f"]({target})" if target else "")
        if name in BLOCKS:
            self._parts.append("\n")
        elif name in ("td", "th"):
            self._parts.append(" | ")

    def _take(self, data: str) -> None:
        if self._is_title:
            self.title += unescape(data)
        elif data:
            self._parts.append(unescape(data if self._is_pre else SPACE.sub(" ", data)))

    def _target(self, href: str) -> str:
        """Where a link leads, if to another page."""
        try:
            target = urljoin(self._base, href.strip())
        except ValueError:
            return ""
        is_page = target.startswith(("http://", "https://")) and href[:1] not in ("", "#")
        return target if is_page else ""

    @property
    def text(self) -> str:
        lines = (line.rstrip() for line in "".join(self._parts).split("\n"))
        return BREAKS.sub("\n\n", "\n".join(lines)).strip()


def _past(text: str, end: str, start: int) -> int:
    """Behind the next `end`, or at the end of the text."""
    at = text.find(end, start)
    return len(text) if at < 0 else at + (len(end) if end[0] != "<" else 0)


def readable(html: str, base: str) -> tuple[str, str]:
    """A page's title and text."""
    reader = Reader(base)
    reader.read(html)
    return " ".join(reader.title.split()), reader.text
