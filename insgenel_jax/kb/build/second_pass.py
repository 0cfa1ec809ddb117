"""Files of Wikipedia pages, and the redirects of all, in; labelled paragraphs and in
how many articles each surface form is linked and seen out.

This is the second pass of `build_from_wikipedia`. It writes the paragraphs because the
first pass does not know yet which redirects there are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import marisa_trie
import pyarrow as pa

from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.build.document_counts import (
    DocumentCounts,
    add_counts,
    count_documents,
)
from insgenel_jax.kb.build.extract import (
    is_held_back,
    is_training_document,
    read_new_pages,
)
from insgenel_jax.kb.build.labels import (
    LabelRule,
    count_names,
    find_meanings,
    label_paragraph,
)
from insgenel_jax.kb.build.processes import Workers, ordered_map
from insgenel_jax.kb.build.wikiextractor import Page
from insgenel_jax.kb.knowledge_base import Case
from insgenel_jax.kb.matcher import Matcher
from insgenel_jax.text.document import Document, dumps
from insgenel_jax.text.formats.rejects import Rejects

_COMPACT = 5_000_000  # rows of counts kept before they are summed


class Part(NamedTuple):
    """A file, and the ids of its pages that are left out."""

    file: Path
    without: frozenset[str]


class Reading(NamedTuple):
    """How the second pass reads a file; every process takes one."""

    case: Case
    dev_share: float
    rules: Sequence[LabelRule]
    abstracts_only: bool
    redirects: str | None  # file of a trie: alias -> title in UTF-8


@dataclasses.dataclass(frozen=True)
class Written:
    """What the second pass has gathered from the files so far; it adds to all."""

    documents: list[DocumentCounts] = dataclasses.field(default_factory=list)
    held_back: list[Document] = dataclasses.field(default_factory=list)
    linked: list[Document] = dataclasses.field(default_factory=list)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """The documents of some pages.

    held_back: of pages held back, with labels as in training. linked: the same with the
    labels of links alone, which people made.
    """

    training: list[bytes]  # Document JSON
    held_back: list[Document]
    linked: list[Document]
    counts: Counter[str]  # of the labels in `training`


def write_redirects(redirects: pa.Table | None, folder: Path) -> str | None:
    """Write a trie of the redirects (REDIRECTS), which processes map; its file."""
    if redirects is None:
        return None
    names, titles = (redirects[name].to_pylist() for name in ("source", "title"))
    file = str(folder / "redirects.marisa")
    marisa_trie.BytesTrie(zip(names, map(str.encode, titles), strict=True)).save(file)
    return file


def second_pass(
    parts: Sequence[Part],
    reading: Reading,
    workers: Workers,
    written: Written,
    train: Path,
    tell: Callable[[Path], None],
    matcher: Matcher,
    trie: Path,
) -> DocumentCounts:
    """In how many articles of all files each form is linked and seen.

    Articles held back are left out. The training documents are written to `train`; all
    else goes into `written`. tell: called with each file that is done. Other processes
    cannot take the matcher; they map the file of its trie.
    """
    read = functools.partial(
        _read_part, reading=reading, trie=str(trie), longest=matcher.longest
    )
    written.counts.update(dict.fromkeys(count_names(reading.rules), 0))
    records = _gather(ordered_map(read, parts, workers), parts, written, tell)
    documents = training_documents.write_shards(train, records)
    written.counts["training documents"] = documents
    return add_counts(written.documents)


def label_pages(
    pages: Iterable[Page],
    dev_share: float,
    rules: Sequence[LabelRule],
    abstracts_only: bool,
    resolve: Callable[[str], str],
) -> Labelled:
    """The paragraphs of pages as training and development documents.

    Both have the labels of the same rules, so that losses on them compare. Which
    paragraphs are taken rests on their links alone, whatever the rules.
    abstracts_only: take only the lead of a page. WikiExtractor drops headings, so that
    of its pages this is the first paragraph, which is always part of the lead.
    resolve: gives the title at the end of a redirect, and any other title back.
    """
    labelled = Labelled([], [], [], Counter())
    for page in pages:
        paragraphs = page.paragraphs[: page.in_lead if abstracts_only else None]
        chosen = list(filter(is_training_document, paragraphs))
        if not chosen:
            continue
        meanings = find_meanings(page, rules, resolve)
        if is_held_back(page.id, dev_share):
            for names, documents in (
                (meanings, labelled.held_back),
                ({}, labelled.linked),
            ):
                documents.extend(
                    label_paragraph(paragraph, names, resolve, Counter())
                    for paragraph in chosen
                )
        else:
            labelled.training.extend(
                dumps(
                    label_paragraph(paragraph, meanings, resolve, labelled.counts)
                ).encode()
                for paragraph in chosen
            )
    return labelled


def _gather(
    results: Iterator[tuple[DocumentCounts, Labelled]],
    parts: Sequence[Part],
    written: Written,
    tell: Callable[[Path], None],
) -> Iterator[bytes]:
    """The training documents of all files, one by one; all else goes into `written`."""
    total = written.documents
    for part, (counts, labelled) in zip(parts, results, strict=True):
        total.append(counts)
        if sum(len(part.forms) for part in total) > _COMPACT:
            total[:] = [add_counts(total)]
        written.held_back.extend(labelled.held_back)
        written.linked.extend(labelled.linked)
        written.counts.update(labelled.counts)
        yield from labelled.training
        tell(part.file)


def _read_part(
    part: Part, reading: Reading, trie: str, longest: int
) -> tuple[DocumentCounts, Labelled]:
    """In how many articles of one file each form is linked and seen, and the labelled
    paragraphs of the file."""
    share = reading.dev_share
    pages = list(read_new_pages(part.file, part.without, Rejects()))
    articles = (page.article() for page in pages if not is_held_back(page.id, share))
    counts = count_documents(_open_matcher(trie, longest), articles, reading.case)
    resolve = _open_redirects(reading.redirects)
    return counts, label_pages(
        pages, share, reading.rules, reading.abstracts_only, resolve
    )


@functools.lru_cache(maxsize=1)
def _open_redirects(file: str | None) -> Callable[[str], str]:
    """A function from a redirect to the title at its end; other titles stay."""
    if file is None:
        return str
    ends = marisa_trie.BytesTrie()
    ends.mmap(file)

    def resolve(title: str) -> str:
        found = ends.get(title)
        return found[0].decode() if found else title

    return resolve


@functools.lru_cache(maxsize=1)
def _open_matcher(trie: str, longest: int) -> Matcher:
    """One matcher a process, because a matcher remembers the words it has met."""
    forms = marisa_trie.Trie()
    forms.mmap(trie)
    return Matcher(forms, longest)
