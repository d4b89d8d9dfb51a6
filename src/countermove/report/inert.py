"""What an arena may hand to the page: markup that shows something and does nothing."""

from __future__ import annotations

from html.parser import HTMLParser

TAGS = frozenset(
    "a abbr b br caption code dd details div dl dt em figcaption figure h3 h4 h5 hr i img li ol p pre small span "
    "strong sub summary sup table tbody td tfoot th thead tr ul var "
    "svg g path line polyline polygon rect circle ellipse text tspan title desc defs use clippath lineargradient "
    "radialgradient stop marker image".split()
)
_LINKS = {"href", "xlink:href", "src"}


def why_not_inert(html: str) -> str:
    """Return the first thing in a panel that the page must not hold, nothing when the panel is fine.

    Allowed are text, tables, lists, figures, pictures as ``data:image/`` addresses, links to a part of the page, and
    SVG that is styled by attributes and classes. A drawing with a style sheet of its own (as plotting libraries write
    it) goes into an ``<img>`` as ``data:image/svg+xml;base64,``.
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.fault


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.fault = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self._refuse(f"the element <{tag}>")
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self._refuse(f"the attribute {name!r}")
            if name in _LINKS and not (value or "").startswith(("#", "data:image/")):
                self._refuse(f"an address outside the page ({name}={(value or '')[:60]!r})")
            if name in {"id", "name"} and not (value or "").startswith("panel-"):
                self._refuse(f"the {name} {(value or '')[:60]!r}; one that begins with 'panel-' is accepted")

    def handle_data(self, data: str) -> None:
        if "<" in data:  # a tag that does not end would swallow what the page says next
            self._refuse("a '<' that begins no whole element")

    def handle_comment(self, data: str) -> None:
        # Browsers end some comments earlier than we do, and would obey the rest.
        self._refuse("a comment")

    def handle_decl(self, decl: str) -> None:
        self._refuse("a declaration")

    def handle_pi(self, data: str) -> None:
        self._refuse("a processing instruction")

    def unknown_decl(self, data: str) -> None:
        self._refuse("a declaration")

    def _refuse(self, what: str) -> None:
        self.fault = self.fault or what
