"""A file of Wikipedia pages in; its links, their sentences and leads out.

This is the first pass of `build_from_wikipedia`, a pure function of one file. A page's
lead describes its entity.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from insgenel_jax.kb.build.context import add_sentences, sentence_table
from insgenel_jax.kb.build.dump.parts import ENDING, read_part
from insgenel_jax.kb.build.entity_list import form_table
from insgenel_jax.kb.build.wikiextractor import Page, read_pages
from insgenel_jax.kb.folding import form_key
from insgenel_jax.text.document import WORD, Document
from insgenel_jax.text.formats.rejects import Rejects

PAGES = pa.schema(
    [("title", pa.large_string()), ("lead", pa.large_string()), ("id", pa.string())]
)

_LONGEST_LEAD = 600  # characters
_FEWEST_WORDS = 10  # of a training document
_MOST_ANCHOR_TEXT = 0.8


@dataclasses.dataclass(frozen=True)
class Extract:
    """What the first pass takes from one file."""

    links: pa.Table  # the columns of FORMS
    sentences: pa.Table  # the columns of SENTENCES
    pages: pa.Table  # the columns of PAGES
    ids: frozenset[str]  # of the pages
    held_back_targets: frozenset[str]  # titles that pages held back link to
    rejected: list[tuple[str, int | None, str, str]]  # arguments of Rejects.add


def extract_file(
    file: Path, dev_share: float, without: frozenset[str] = frozenset()
) -> Extract:
    """Links and leads of one file.

    dev_share: the share of the pages that are held back; links of these are not
    counted, only their targets kept, and their sentences are not taken. without: ids of
    pages to leave out.
    """
    rejects = Rejects()
    links: Counter[tuple[str, str]] = Counter()
    sentences: dict[str, list[str]] = {}
    titles: list[str] = []
    leads: list[str] = []
    targets: set[str] = set()
    ids: dict[str, None] = {}
    for page in read_new_pages(file, without, rejects):
        ids[page.id] = None
        titles.append(page.title)
        leads.append(shorten(page.lead))
        if is_held_back(page.id, dev_share):
            targets.update(title for _, title in _links(page))
        else:
            links.update(_links(page))
            for paragraph in page.paragraphs:
                add_sentences(paragraph, sentences)
    pages = pa.table({"title": titles, "lead": leads, "id": list(ids)}, PAGES)
    return Extract(
        form_table(links),
        sentence_table(sentences),
        pages,
        frozenset(ids),
        frozenset(targets),
        rejects.entries,
    )


def read_new_pages(
    file: Path, without: frozenset[str], rejects: Rejects
) -> Iterator[Page]:
    """The pages of a file whose id is not in `without` and not that of an earlier page.

    The others go to `rejects`.
    """
    ids = set(without)
    read = read_part if file.name.endswith(ENDING) else read_pages
    for page in read(file, rejects):
        if page.id in ids:
            reason = f"page seen before: id {page.id}"
            rejects.add(str(file), page.line, reason, page.title)
        else:
            ids.add(page.id)
            yield page


def is_training_document(paragraph: Document) -> bool:
    """Whether a paragraph has enough words, a link, and enough text outside its links.

    (*paper*, section 4.1)
    """
    linked = sum(mention.end - mention.start for mention in paragraph.mentions)
    return (
        0 < linked <= _MOST_ANCHOR_TEXT * len(paragraph.text)
        and len(WORD.findall(paragraph.text)) >= _FEWEST_WORDS
    )


def is_held_back(page_id: str, share: float) -> bool:
    """Whether a page belongs to the development share. A hash of its id decides."""
    digest = hashlib.blake2b(page_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def shorten(lead: str) -> str:
    """A lead without spaces at its ends, cut between words if it is long."""
    lead = lead.strip()
    if len(lead) <= _LONGEST_LEAD:
        return lead
    return lead[:_LONGEST_LEAD].rsplit(" ", 1)[0]


def _links(page: Page) -> Iterator[tuple[str, str]]:
    """(surface form, title) of every link."""
    for paragraph in page.paragraphs:
        for mention in paragraph.mentions:
            if mention.entity is not None:
                anchor = paragraph.text[mention.start : mention.end]
                yield form_key(anchor), mention.entity
