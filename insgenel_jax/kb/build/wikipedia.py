"""Pages in; a knowledge base, training documents and development documents out.

Two passes over the files, each a pure function of a file over a pool of processes: the
first counts links and writes paragraphs, the second counts in how many articles each
surface form is linked and seen. Results are taken in order, so the output is the same
whatever the number of processes. Of pages of one id the first counts; a file with pages
that an earlier file had is read again without them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import marisa_trie
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from insgenel_jax import artifact
from insgenel_jax.kb.build import tables as build
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.build.wikiextractor import (
    Page,
    article_title,
    find_files,
    read_pages,
)
from insgenel_jax.kb.knowledge_base import Case, form_key
from insgenel_jax.kb.matcher import Matcher
from insgenel_jax.text.document import Document, dumps
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import Rejects

_LONGEST_LEAD = 600  # characters
_COMPACT = 5_000_000  # link rows kept before they are summed


@dataclasses.dataclass(frozen=True)
class Extract:
    """What the first pass takes from one file."""

    links: pa.Table  # form, title, count: build.FORMS
    pages: pa.Table  # title, lead
    ids: frozenset[str]  # of the pages
    training: list[bytes]  # Document JSON
    held_back: list[Document]
    rejected: list[tuple[str, int | None, str, str]]


def build_from_wikipedia(
    source: str | os.PathLike,
    out: str | os.PathLike,
    rejects: Rejects,
    *,
    leads: str | os.PathLike | None = None,
    case: Case = "any",
    dev_share: float = 0.01,
    workers: int = 1,
) -> dict[str, int]:
    """Write OUT/kb, OUT/train and OUT/dev.jsonl; returns counts.

    leads: JSONL of {"title", "lead"}, descriptions that are preferred to a page's own
    first paragraph. dev_share: share of the pages whose paragraphs are held back.
    """
    out = Path(out)
    files = find_files(source)
    known_leads = read_leads(leads, rejects) if leads is not None else {}
    held_back: list[Document] = []
    links: list[pa.Table] = []
    pages: list[pa.Table] = []
    ids: set[str] = set()  # of all pages so far
    parts: list[tuple[Path, frozenset[str]]] = []  # files, pages to leave out of each

    def training() -> Iterator[bytes]:
        extract = functools.partial(extract_file, dev_share=dev_share)
        for file, found in zip(files, ordered_map(extract, files, workers)):
            seen = found.ids & ids
            if seen:
                found = extract(file, seen=seen)
            ids.update(found.ids)
            parts.append((file, seen))
            for entry in found.rejected:
                rejects.add(*entry)
            links.append(found.links)
            pages.append(found.pages)
            if sum(map(len, links)) > _COMPACT:
                links[:] = [_sum_links(links)]
            held_back.extend(found.held_back)
            yield from found.training

    name = training_documents.KIND
    with artifact.create(out / "train", name, training_documents.VERSION) as draft:
        written = training_documents.write_shards(draft.path, training())
        link_table = _sum_links(links)
        page_table = pa.concat_tables(pages)
        entities = entity_table(link_table, page_table, known_leads)
        counts = build.build(
            out / "kb",
            entities,
            pa.concat_tables([link_table, title_form_table(entities["title"])]),
            case=case,
            count_documents=functools.partial(count_files, parts, case, workers),
        )
        draft.counts = {"documents": written}
        draft.made_from = {"knowledge-base": artifact.identity(out / "kb")}
    write_documents(out / "dev.jsonl", held_back)
    return {
        "pages": len(page_table),
        "links": pc.sum(link_table["count"]).as_py() or 0,
        **counts,
        "training documents": written,
        "development documents": len(held_back),
    }


def extract_file(
    file: Path, dev_share: float, seen: frozenset[str] = frozenset()
) -> Extract:
    """Links, leads and paragraphs of one file, without the pages of the ids `seen`."""
    rejects = Rejects()
    links: Counter[tuple[str, str]] = Counter()
    titles: list[str] = []
    leads: list[str] = []
    training: list[bytes] = []
    held_back: list[Document] = []
    ids: set[str] = set()
    for page in _new_pages(file, seen, rejects):
        ids.add(page.id)
        titles.append(page.title)
        leads.append(_own_lead(page))
        links.update(_links(page))
        chosen = filter(training_documents.is_training_document, page.paragraphs)
        if training_documents.is_held_back(page.id, dev_share):
            held_back.extend(chosen)
        else:
            training.extend(dumps(paragraph).encode() for paragraph in chosen)
    rows = sorted(links.items())
    return Extract(
        pa.table(
            {
                "form": [form for (form, _), _ in rows],
                "title": [title for (_, title), _ in rows],
                "count": [count for _, count in rows],
            },
            schema=build.FORMS,
        ),
        pa.table(
            {"title": titles, "lead": leads},
            schema=pa.schema(
                [("title", pa.large_string()), ("lead", pa.large_string())]
            ),
        ),
        frozenset(ids),
        training,
        held_back,
        rejects.entries,
    )


def count_files(
    parts: list[tuple[Path, frozenset[str]]],
    case: Case,
    workers: int,
    matcher: Matcher,
    trie: Path,
) -> build.DocumentCounts:
    """In how many articles each form is linked and seen; other processes map the trie."""
    count = functools.partial(
        count_file, case=case, trie=str(trie), longest=matcher.longest
    )
    total: list[build.DocumentCounts] = []
    for counts in ordered_map(count, parts, workers):
        total.append(counts)
        if sum(len(ids) for ids, _, _ in total) > _COMPACT:
            total = [build.add_counts(total)]
    return build.add_counts(total)


def count_file(
    part: tuple[Path, frozenset[str]], case: Case, trie: str, longest: int
) -> build.DocumentCounts:
    """In how many articles of one file each form is linked and seen.

    part: the file and the ids of pages to leave out.
    """
    articles = (page.article() for page in _new_pages(*part, Rejects()))
    return build.count_documents(_open_matcher(trie, longest), articles, case)


def entity_table(links: pa.Table, pages: pa.Table, leads: dict[str, str]) -> pa.Table:
    """Every page and every link's target, those with the most links first."""
    inlinks = links.group_by("title").aggregate([("count", "sum")])
    titles = pa.chunked_array([*inlinks["title"].chunks, *pages["title"].chunks])
    titles = titles.unique()
    row = pc.index_in(titles, inlinks["title"].combine_chunks())
    table = pa.table(
        {
            "title": titles,
            "inlinks": inlinks["count_sum"].combine_chunks().take(row).fill_null(0),
        }
    ).sort_by([("inlinks", "descending"), ("title", "ascending")])
    own = dict(
        zip(reversed(pages["title"].to_pylist()), reversed(pages["lead"].to_pylist()))
    )  # of two pages of one title, the first counts
    names = table["title"].to_pylist()
    descriptions = [leads.get(name) or own.get(name, "") for name in names]
    table = table.append_column(
        "description", pa.array(descriptions, pa.large_string())
    )
    table = table.append_column("external_id", pa.nulls(len(names), pa.large_string()))
    return table.select(build.ENTITIES.names)


def title_form_table(titles: pa.ChunkedArray) -> pa.Table:
    """The surface forms that the titles themselves give, counted once each."""
    forms, owners = [], []
    for title in titles.to_pylist():
        keys = dict.fromkeys(map(form_key, build.title_forms(title)))
        forms += keys
        owners += [title] * len(keys)
    ones = np.ones(len(forms), np.int64)
    return pa.table({"form": forms, "title": owners, "count": ones}, build.FORMS)


def read_leads(path: str | os.PathLike, rejects: Rejects) -> dict[str, str]:
    """title -> lead from JSONL lines of {"title", "lead"}; the first of a title counts."""
    leads: dict[str, str] = {}
    for number, line in decode_lines(path, rejects):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            rejects.add(str(path), number, f"not JSON: {error}", line)
            continue
        title = record.get("title") if isinstance(record, dict) else None
        lead = record.get("lead") if isinstance(record, dict) else None
        if not isinstance(title, str) or not isinstance(lead, str):
            rejects.add(str(path), number, "not a title and its lead", line)
        elif build.check_text(lead):
            leads.setdefault(article_title(title), _shorten(lead))
        else:
            rejects.add(str(path), number, "lone surrogate in a description", line)
    return leads


def ordered_map(function: Callable, items: Iterable, workers: int) -> Iterator:
    """function(item) of each, in order, over a pool of processes; few are in flight."""
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")  # arrow has threads: no forks
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        pending: deque = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _new_pages(file: Path, seen: frozenset[str], rejects: Rejects) -> Iterator[Page]:
    """The pages of a file whose id is neither in `seen` nor that of one before."""
    ids = set(seen)
    for page in read_pages(file, rejects):
        if page.id in ids:
            reason = f"page seen before: id {page.id}"
            rejects.add(str(file), page.line, reason, page.title)
        else:
            ids.add(page.id)
            yield page


def _links(page: Page) -> Iterator[tuple[str, str]]:
    for paragraph in page.paragraphs:
        for mention in paragraph.mentions:
            anchor = paragraph.text[mention.start : mention.end]
            yield form_key(anchor), mention.entity


def _sum_links(tables: list[pa.Table]) -> pa.Table:
    """One row a (form, title), sorted: the same whatever the order of the tables."""
    table = pa.concat_tables(tables)
    table = table.group_by(["form", "title"]).aggregate([("count", "sum")])
    table = table.rename_columns({"count_sum": "count"}).select(build.FORMS.names)
    return table.sort_by([("form", "ascending"), ("title", "ascending")])


def _own_lead(page: Page) -> str:
    return _shorten(page.paragraphs[0].text) if page.paragraphs else ""


def _shorten(text: str) -> str:
    text = text.strip()
    return (
        text if len(text) <= _LONGEST_LEAD else text[:_LONGEST_LEAD].rsplit(" ", 1)[0]
    )


@functools.lru_cache(maxsize=1)
def _open_matcher(trie: str, longest: int) -> Matcher:
    """One a process: it remembers the words it has met."""
    forms = marisa_trie.Trie()
    forms.mmap(trie)
    return Matcher(forms, longest)
