"""Pages in; a knowledge base, training documents and development documents out.

There are two passes over the files. Each is a pure function of a file that runs on a
pool of processes. The first counts links. The second counts in how many articles each
surface form is linked and seen, and writes labelled paragraphs: only then is it known
which redirects there are. Results are taken in order, so
the output is the same for any number of processes. Of pages with one id the first
counts: a file with pages that an earlier file had is read again without them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from insgenel_jax import artifact
from insgenel_jax.kb.build import report, training_documents
from insgenel_jax.kb.build.article_titles import article_title
from insgenel_jax.kb.build.context import first_sentences
from insgenel_jax.kb.build.coverage import kb_rows
from insgenel_jax.kb.build.dictionaries import (
    NO_DICTIONARIES,
    DictionaryFiles,
    Redirect,
    count_aliases,
    end_redirects,
    known_redirects,
    read_redirects,
    read_titles,
    redirect_links,
)
from insgenel_jax.kb.build.dump.parts import Dump
from insgenel_jax.kb.build.entity_list import form_table, redirect_table
from insgenel_jax.kb.build.extract import extract_file, shorten
from insgenel_jax.kb.build.labels import PAPER, LabelRule
from insgenel_jax.kb.build.name_rules import FormRule
from insgenel_jax.kb.build.names import has_surrogate, name_problem, title_forms
from insgenel_jax.kb.build.processes import Workers, ordered_map
from insgenel_jax.kb.build.second_pass import (
    Part,
    Reading,
    Written,
    second_pass,
    write_redirects,
)
from insgenel_jax.kb.build.tables import FORMS, build_from_tables
from insgenel_jax.kb.build.wikidata import NO_IDS, WikidataIds
from insgenel_jax.kb.build.wikiextractor import find_files
from insgenel_jax.kb.folding import form_key
from insgenel_jax.kb.knowledge_base import Case
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import Rejects

_COMPACT = 5_000_000  # rows of counts kept before they are summed


@dataclasses.dataclass(frozen=True)
class Totals:
    """What the first pass has gathered from the files so far; it adds to the lists."""

    links: list[pa.Table] = dataclasses.field(default_factory=list)  # FORMS
    sentences: list[pa.Table] = dataclasses.field(default_factory=list)  # SENTENCES
    pages: list[pa.Table] = dataclasses.field(default_factory=list)  # PAGES
    held_back_targets: set[str] = dataclasses.field(default_factory=set)  # titles
    ids: set[str] = dataclasses.field(default_factory=set)  # of all pages
    parts: list[Part] = dataclasses.field(default_factory=list)


class Given(NamedTuple):
    """What was read before the pages, to be joined with them."""

    files: DictionaryFiles
    leads: dict[str, str]  # title -> lead
    redirects: dict[str, Redirect]
    titles: list[str]
    choices: Mapping[str, Sequence[str]]  # disambiguation page -> titles
    wikidata: WikidataIds


class Tables(NamedTuple):
    """What the knowledge base is made of, and how much each source gave to it."""

    entities: pa.Table  # ENTITIES
    sources: dict[str, pa.Table]  # FORMS, of each source of surface forms
    redirects: pa.Table | None  # REDIRECTS
    sentences: pa.Table  # SENTENCES
    counts: dict[str, int]


def build_from_wikipedia(
    source: str | os.PathLike | Dump,
    out: str | os.PathLike,
    rejects: Rejects,
    *,
    wikidata: WikidataIds = NO_IDS,
    leads: str | os.PathLike | None = None,
    case: Case = "any",
    dev_share: float = 0.01,
    workers: Workers = 1,
    dictionaries: DictionaryFiles = NO_DICTIONARIES,
    label_rules: Sequence[LabelRule] = PAPER,
    abstracts_only: bool = False,
    form_rules: Sequence[FormRule] = (),
    tell: Callable[[Path], None] = lambda file: None,
) -> dict[str, int]:
    """Write OUT/kb, OUT/train, dev.jsonl, heldout.jsonl, report.json; return counts.

    source: a dump that has been parsed, whose redirects and disambiguation pages give
    surface forms too; or WikiExtractor's output, a file or a folder. wikidata: external
    ids. leads: JSONL of {"title", "lead"}; the lead of an entity's own page describes
    one without. dev_share: the share of the pages whose paragraphs are held back, in
    dev.jsonl with labels as in training, in heldout.jsonl with links alone. Their
    titles and leads are entities, as are the titles that they link to, but their text
    counts nowhere: no link, no linked or seen form. workers: see `processes.Workers`.
    dictionaries: files of redirects, aliases and titles. A link or label of a redirect
    counts for the title at its end, and the redirect's own name becomes a surface form.
    A title that has no page in `source` becomes an entity. label_rules: which labels
    documents have beside the links (labels.py); they count as links nowhere.
    abstracts_only: only leads become documents. form_rules: see `build_from_tables`.
    tell: called after each of the two readings of a file of `source`.
    """
    out, dump = Path(out), source if isinstance(source, Dump) else None
    files = find_files(source) if dump is None else dump.files
    given = _read_given(leads, dictionaries, dump, wikidata, rejects)
    totals, written = Totals(), Written()
    artifact_kind = training_documents.KIND, training_documents.VERSION
    with (
        artifact.create(out / "train", *artifact_kind) as draft,
        tempfile.TemporaryDirectory() as scratch,
    ):
        _first_pass(files, totals, rejects, dev_share, workers, tell)
        tables = _make_tables(totals, given, rejects)
        redirects = write_redirects(tables.redirects, Path(scratch))
        reading = Reading(case, dev_share, label_rules, abstracts_only, redirects)
        counts = build_from_tables(
            out / "kb",
            tables.entities,
            pa.concat_tables(tables.sources.values()),
            tables.redirects,
            sentences=tables.sentences,
            form_rules=form_rules,
            case=case,
            count_documents=functools.partial(
                second_pass, totals.parts, reading, workers, written, draft.path, tell
            ),
        )
        number = written.counts["training documents"]
        training_documents.finish(draft, number, out / "kb")
    return _write_rest(out, tables, counts, written)


def _write_rest(
    out: Path, tables: Tables, counts: dict[str, int], written: Written
) -> dict[str, int]:
    """Write the development documents and the report; the counts of all."""
    write_documents(out / "dev.jsonl", written.held_back)
    write_documents(out / "heldout.jsonl", written.linked)
    written.counts["development documents"] = len(written.held_back)
    made = tables.counts | counts | written.counts
    titles = tables.entities["title"]
    rows = kb_rows(out / "kb", titles, tables.sources, written.linked)
    report.write_json(out, made, *rows)
    return made


def read_leads(path: str | os.PathLike, rejects: Rejects) -> dict[str, str]:
    """title -> lead, from JSONL of {"title", "lead"}; the first of a title counts."""
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
        elif has_surrogate(lead):
            rejects.add(str(path), number, "lone surrogate in a description", line)
        else:
            leads.setdefault(article_title(title), shorten(lead))
    return leads


def _first_pass(
    files: Sequence[Path],
    totals: Totals,
    rejects: Rejects,
    dev_share: float,
    workers: Workers,
    tell: Callable[[Path], None],
) -> None:
    """Put the links and leads of all files into `totals`."""
    extract = functools.partial(extract_file, dev_share=dev_share)
    extracts = ordered_map(extract, files, workers)
    for file, extracted in zip(files, extracts, strict=True):
        seen = extracted.ids & totals.ids
        if seen:
            extracted = extract(file, without=seen)
        totals.ids.update(extracted.ids)
        totals.parts.append(Part(file, seen))
        for entry in extracted.rejected:
            rejects.add(*entry)
        totals.links.append(extracted.links)
        totals.sentences.append(extracted.sentences)
        totals.pages.append(extracted.pages)
        if sum(map(len, totals.links)) > _COMPACT:
            totals.links[:] = [_sum_links(totals.links)]
        if sum(map(len, totals.sentences)) > _COMPACT:
            totals.sentences[:] = [first_sentences(totals.sentences)]
        totals.held_back_targets.update(extracted.held_back_targets)
        tell(file)


def _read_given(
    leads: str | os.PathLike | None,
    files: DictionaryFiles,
    dump: Dump | None,
    wikidata: WikidataIds,
    rejects: Rejects,
) -> Given:
    """Read what is joined with the pages. The aliases are read later, line by line."""
    given = {} if files.redirects is None else read_redirects(files.redirects, rejects)
    redirects: dict[str, Redirect] = {}
    if dump is not None:  # its own come first
        for alias, title in dump.redirects.items():
            redirects[alias] = Redirect(title, None, "redirect page of the dump")
    return Given(
        files,
        {} if leads is None else read_leads(leads, rejects),
        given | redirects,
        [] if files.titles is None else read_titles(files.titles, rejects),
        {} if dump is None else dump.choices,
        wikidata,
    )


def _make_tables(totals: Totals, given: Given, rejects: Rejects) -> Tables:
    """Join the pages and their links with redirects, aliases and titles."""
    files, redirects = given.files, given.redirects
    links, pages = _sum_links(totals.links), pa.concat_tables(totals.pages)
    counts = {"pages": len(pages), "links": pc.sum(links["count"]).as_py() or 0}
    page_titles = set(pages["title"].to_pylist())
    ends = end_redirects(redirects, page_titles, rejects)
    has_redirects = bool(redirects) or files.redirects is not None
    if has_redirects:
        links, counts["links to redirects"] = redirect_links(links, ends)
        links = _sum_links([links])
    titles = [title for title in given.titles if title not in ends]
    others = [ends.get(title, title) for title in sorted(totals.held_back_targets)]
    entities = _entity_table(links, pages, titles + others, given, ends)
    known = set(entities["title"].to_pylist())
    if has_redirects:
        # The dump's redirects to what has no page and no link are no bad input.
        lost = [a for a, end in ends.items() if end not in known]
        lost = [alias for alias in lost if redirects[alias].line is None]
        for alias in lost:
            del ends[alias]
        ends = known_redirects(redirects, ends, known, rejects)
        if lost:
            counts["redirects to no entity"] = len(lost)
        counts["names from redirects"] = len(ends)
    if files.titles is not None:
        counts["titles given"] = len(given.titles)
        counts["titles given, of no page"] = len(set(titles) - page_titles)
    sources = {
        "titles": _title_form_table(entities["title"]),
        "redirects": _redirect_form_table(ends),
        "disambiguation pages": _choice_form_table(given.choices, ends, known),
        "links": links,
    }
    if files.aliases is not None:
        aliases, used = count_aliases(files, ends, known, rejects)
        counts["aliases"] = used
        sources["aliases"] = form_table(aliases)
    table = redirect_table(ends) if has_redirects else None
    sentences = first_sentences(totals.sentences, ends)
    return Tables(entities, sources, table, sentences, counts)


def _entity_table(
    links: pa.Table,
    pages: pa.Table,
    others: Sequence[str],
    given: Given,
    ends: Mapping[str, str],
) -> pa.Table:
    """Every page, every link's target and every title in `others`.

    Those with the most links come first, and of these those with the most redirects.
    ends: alias -> title, the redirects.
    """
    inlinks = links.group_by("title").aggregate([("count", "sum")])
    more = pa.array(others, pa.large_string())
    titles = pa.chunked_array([*inlinks["title"].chunks, *pages["title"].chunks, more])
    titles = titles.unique()
    row = pc.index_in(titles, inlinks["title"].combine_chunks())
    redirects = Counter(ends.values())
    table = pa.table(
        {
            "title": titles,
            "inlinks": inlinks["count_sum"].combine_chunks().take(row).fill_null(0),
            "redirects": [redirects[title] for title in titles.to_pylist()],
        }
    ).sort_by(
        [
            *(("inlinks", "descending"), ("redirects", "descending")),
            ("title", "ascending"),
        ]
    )
    # Of two pages of one title the first counts: a dict keeps the last pair of a key.
    own = dict(
        zip(
            reversed(pages["title"].to_pylist()),
            zip(
                reversed(pages["lead"].to_pylist()),
                reversed(pages["id"].to_pylist()),
                strict=True,
            ),
            strict=True,
        )
    )
    names = table["title"].to_pylist()
    found = [own.get(name, ("", None)) for name in names]
    descriptions = [
        given.leads.get(name) or lead
        for name, (lead, _) in zip(names, found, strict=True)
    ]
    ids = given.wikidata.of(names, [page for _, page in found])
    return pa.table(
        {
            "title": table["title"],
            "description": pa.array(descriptions, pa.large_string()),
            "external_id": pa.array(ids, pa.large_string()),
            "inlinks": table["inlinks"],
            "redirects": table["redirects"],
        }
    )


def _title_form_table(titles: pa.ChunkedArray) -> pa.Table:
    """The surface forms that the titles themselves give, counted once each."""
    forms: list[str] = []
    owners: list[str] = []
    for title in titles.to_pylist():
        keys = dict.fromkeys(map(form_key, title_forms(title)))
        forms += keys
        owners += [title] * len(keys)
    ones = np.ones(len(forms), np.int64)
    return pa.table({"form": forms, "title": owners, "count": ones}, FORMS)


def _redirect_form_table(redirects: Mapping[str, str]) -> pa.Table:
    """The surface forms that the names of redirects give, counted once each."""
    return form_table(
        Counter((form_key(alias), title) for alias, title in redirects.items())
    )


def _choice_form_table(
    choices: Mapping[str, Sequence[str]], ends: Mapping[str, str], known: Container[str]
) -> pa.Table:
    """The titles of disambiguation pages, without what stands in parentheses, as names
    of the articles that the pages list, counted once each."""
    forms: Counter[tuple[str, str]] = Counter()
    for title, others in choices.items():
        name = title.split(" (")[0]
        for other in {ends.get(other, other) for other in others}:
            if other in known and not name_problem(name):
                forms[form_key(name), other] = 1
    return form_table(forms)


def _sum_links(tables: list[pa.Table]) -> pa.Table:
    """One row a (form, title), sorted: the same whatever the order of the tables."""
    table = pa.concat_tables(tables)
    table = table.group_by(["form", "title"]).aggregate([("count", "sum")])
    table = table.rename_columns({"count_sum": "count"}).select(FORMS.names)
    return table.sort_by([("form", "ascending"), ("title", "ascending")])
