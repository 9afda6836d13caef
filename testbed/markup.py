"""HTML as text: elements whose content is escaped unless it is HTML already. No templates, nothing from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from testbed.plot import svg
from testbed.style import Theme

# Colours that stand for "whatever the page's are" while a picture is drawn, replaced by CSS in the page.
_INK, _FAINT = "#010203", "#040506"
# Data colours that need another shade on dark paper.
_SHADED = {"#0072b2": "var(--blue)", "#e3e3e3": "var(--wait)"}
PAGE = Theme(ink=_INK, faint=_FAINT, paper="none")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def safe(content: object) -> Html:
    """*content* as HTML; plain text is escaped."""
    return content if isinstance(content, Html) else Html(html.escape(str(content)))


def element(name: str, *content: object, **attributes: str) -> Html:
    """``element("p", "a < b", class_="note")`` -> ``<p class="note">a &lt; b</p>``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value, quote=True)}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{written}>{''.join(safe(item) for item in content)}</{name}>")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, text_columns: int = 1) -> Html:
    """A table whose first *text_columns* columns hold text and the others numbers, set right."""

    def cells(name: str, row: Sequence[object]) -> Html:
        scope = {"scope": "col"} if name == "th" else {}
        return Html(
            "".join(
                element(name, item, **scope)
                if place < text_columns
                else element(name, item, class_="number", **scope)
                for place, item in enumerate(row)
            )
        )

    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", cells("th", head))),
            element("tbody", *(element("tr", cells("td", row)) for row in rows)),
        ),
        class_="scroll",
        tabindex="0",  # so that the arrow keys move a wide table
    )


def picture(figure: Figure, label: str) -> Html:
    """A figure drawn with `PAGE` as an inline SVG that takes the page's colours, light or dark.

    Args:
        label: what it shows, for those who cannot see it.
    """
    text = svg(figure)
    text = text[text.index("<svg") :]
    text = text.replace(_INK, "currentColor").replace(_FAINT, "var(--faint)")
    for colour, variable in _SHADED.items():
        text = text.replace(colour, variable)
    # Several pictures share a page: ids that nothing refers to ("axes_1") would stand there twice.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    # The page sets the size; the view box keeps the proportions.
    text = re.sub(
        r'<svg ([^>]*?)width="([0-9.]+)pt" height="[0-9.]+pt"',
        r'<svg \1style="max-width: \2pt"',
        text,
        count=1,
    )
    text = text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label, quote=True)}" ', 1)
    return element("figure", Html(text), tabindex="0")  # on a phone it is moved sideways
