"""The paragraphs of one LibreOffice help page, under the ids that all languages share."""

import re
from dataclasses import dataclass

from lxml import etree, html

_BLOCKS = ("p", "h1", "h2", "h3", "h4", "h5", "h6")
_DROPPED = "dropped"
_LINE_BREAK = re.compile(rb"<br\s*/?>")


@dataclass(frozen=True)
class Paragraph:
    """``key`` is (id, how many paragraphs with that id came before on the page)."""

    key: tuple[str, int]
    text: str
    is_code: bool


def read_page(page: bytes) -> list[Paragraph]:
    """Return the paragraphs of a help page in document order; none if it has no help text.

    Paragraphs without an id (navigation, "to access this command") are left out. Where the text
    differs between systems or applications, the default variant is taken.
    """
    try:
        root = html.document_fromstring(
            _LINE_BREAK.sub(b" ", page), parser=html.HTMLParser(encoding="utf-8")
        )
    except etree.LxmlError:  # nothing that could be a page
        return []
    areas = root.xpath("//*[@id='DisplayArea']")
    if not areas:
        return []
    _resolve_switches(areas[0])
    paragraphs = []
    seen: dict[str, int] = {}
    for element in areas[0].iter(*_BLOCKS):
        name = element.get("id")
        text = " ".join(element.text_content().split())
        if name is None or not text:
            continue
        key = (name, seen.get(name, 0))
        seen[name] = key[1] + 1
        paragraphs.append(Paragraph(key, text, "code" in element.get("class", "")))
    return paragraphs


def _resolve_switches(area: html.HtmlElement) -> None:
    """Leave one variant of each inline switch such as Command / Ctrl: the default or the first."""
    for switch in area.xpath(".//span[@class='switchinline']"):
        variants = [child for child in switch if isinstance(child.tag, str)]  # not comments
        default = [v for v in variants if v.get("id", "").startswith("default")]
        for variant in variants:
            if variant is not (default or variants)[0]:
                variant.tag = _DROPPED
    # Not drop_tree(): it fails where a control character follows.
    etree.strip_elements(area, _DROPPED, with_tail=False)
