"""The lead of a page, its wikitext before the first heading, in; reduced wikitext out.

The lead describes an entity, so it is read as a tree by mwparserfromhell, which takes
ten times as long as the scanner of wikitext.py and follows MediaWiki more closely.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from insgenel_jax.kb.build.dump import wikitext
from insgenel_jax.kb.build.dump.site import CATEGORY, FILE, Site

try:
    import mwparserfromhell
    from mwparserfromhell import nodes
except ImportError:
    mwparserfromhell = None

# A longer lead, with tables of data, is scanned, and so is one with more tags: the
# parser takes quadratic time for tags that are never closed.
LONGEST = 100_000  # characters
_MOST_TAGS = 1000
_HEADING = re.compile(r"^={1,6}[^=\n].*?=\s*$", re.MULTILINE)


def check_parser() -> None:
    """Raises ImportError that says what to install, where mwparserfromhell is not."""
    if mwparserfromhell is None:
        raise ImportError(
            "a Wikipedia dump needs mwparserfromhell: "
            'pip install "insgenel_jax[wikipedia]"'
        )


def split(text: str) -> tuple[str, str]:
    """The lead and the rest of a page's wikitext."""
    heading = _HEADING.search(text)
    cut = heading.start() if heading else len(text)
    return text[:cut], text[cut:]


def reduce(text: str, site: Site) -> str:
    """Reduced wikitext of a lead, as `wikitext.reduce` makes it of the rest."""
    if len(text) > LONGEST or text.count("<") > _MOST_TAGS:
        return wikitext.reduce(text, site)
    tree = mwparserfromhell.parse(text, skip_style_tags=True)
    return wikitext.reduce("".join(_shown(tree.nodes, site)), site)


def _shown(tree: list, site: Site) -> Iterator[str]:
    """The parts of a tree that are text or links to pages, as wikitext."""
    for node in tree:
        if isinstance(node, nodes.Text):
            yield node.value
        elif isinstance(node, nodes.Wikilink):
            if site.namespace(str(node.title).strip()) not in (FILE, CATEGORY):
                yield str(node)
        elif isinstance(node, nodes.Tag):
            yield from _tag(node, site)
        elif not isinstance(node, nodes.Template | nodes.Comment | nodes.Argument):
            yield str(node)


def _tag(tag, site: Site) -> Iterator[str]:
    """A tag that mwparserfromhell found: of an element, or of a list or a table."""
    name = str(tag.tag).strip().lower()
    if name in wikitext.HIDDEN:
        return
    is_whole = name == "table" or name in wikitext.LITERAL
    if is_whole or tag.self_closing or tag.wiki_markup:
        yield str(tag)
    else:
        space = "\n\n" if name in wikitext.BLOCK.split() else ""
        yield space
        yield from _shown(tag.contents.nodes, site)
        yield space
