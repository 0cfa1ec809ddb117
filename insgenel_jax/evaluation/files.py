"""Files of documents, predictions, redirects and titles in; what they hold out.

Lines that cannot be read go to the rejects. Documents are of our own JSON, or of
ELEVANT's: a file is taken for what its first line is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from insgenel_jax.evaluation import keep, scoring
from insgenel_jax.evaluation.linking import join
from insgenel_jax.evaluation.modes import Labelled
from insgenel_jax.evaluation.run import Predictions
from insgenel_jax.kb.folding import fold_title
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.elevant import Article, read_articles
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import InputError, Rejects

_OF_ARTICLES = {"labels", "evaluation_span", "entity_mentions"}  # fields


def read_labelled(path: Path, rejects: Rejects) -> list[Document] | list[Article]:
    """The documents or articles of a file, labelled or linked."""
    if is_elevant(path):
        return list(read_articles(path, rejects))
    return list(read_documents(path, rejects))


def is_elevant(path: Path) -> bool:
    """Whether the first line of a file that is JSON is an article of ELEVANT."""
    if str(path) == "-":  # what is read once is gone
        return False
    with Rejects(None) as ignored:
        for _, line in decode_lines(path, ignored):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            return isinstance(record, dict) and not _OF_ARTICLES.isdisjoint(record)
    return False


def read_gold(path: Path, rejects: Rejects) -> list[Document] | list[Article]:
    """The labelled documents of a file. Raises InputError where there is none."""
    documents = read_labelled(path, rejects)
    if not documents:
        raise InputError(
            f"{path}: expected labelled documents, one a line, found none that can be "
            "read; check the file"
        )
    return documents


def read_sets(paths: Sequence[Path], rejects: Rejects) -> dict[str, list[Document]]:
    """The labelled documents of each file, by a name made from its path.

    Raises InputError for an article of ELEVANT: see `read_benchmarks`.
    """
    sets: dict[str, list[Document]] = {}
    for name, path in zip(name_files(paths), paths, strict=True):
        documents = read_gold(path, rejects)
        sets[name] = [d for d in documents if isinstance(d, Document)]
        if len(sets[name]) < len(documents):
            raise InputError(
                f"{path}: expected documents with mentions, found articles of ELEVANT; "
                "only --documents of insgenel evaluate may be such a file"
            )
    return sets


def read_benchmarks(
    paths: Sequence[Path], rejects: Rejects
) -> dict[str, Sequence[Labelled]]:
    """The labelled documents or articles of each file, by a name made from its path."""
    names = name_files(paths)
    return {n: read_gold(path, rejects) for n, path in zip(names, paths, strict=True)}


def read_predictions(
    paths: Sequence[Path],
    sets: Mapping[str, Sequence[Labelled]],
    systems: Sequence[str],
    rejects: Rejects,
) -> list[Predictions]:
    """Documents linked already, each path a system.

    Files: one for each set, in order, once or several times over. A folder: one that an
    evaluation has kept, with the links of each set. systems: names that the paths may
    not take. Raises InputError, before any system runs, for documents that are not
    those of their set.
    """
    predictions, files = [], 0
    names = name_systems(paths, list(sets), systems)
    for path, name in zip(paths, names, strict=True):
        if path.is_dir():
            for dataset, golds in sets.items():
                predictions.append(_read_kept(path, name, dataset, golds, rejects))
        else:
            dataset = list(sets)[files % len(sets)]
            files += 1
            given = _read_linked(path, sets[dataset], rejects)
            predictions.append(Predictions(dataset, name, given))
    order = list(sets)
    return sorted(predictions, key=lambda given: order.index(given.dataset))


def _read_linked(
    path: Path, golds: Sequence[Labelled], rejects: Rejects
) -> list[Document] | list[Article]:
    documents = read_labelled(path, rejects)
    bare = [Document(document.id, document.text) for document in documents]
    try:
        scoring.pair_documents([Document(g.id, g.text) for g in golds], bare)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return documents


def _read_kept(
    folder: Path,
    name: str,
    dataset: str,
    golds: Sequence[Labelled],
    rejects: Rejects,
) -> Predictions:
    """The links of a set in a folder of predictions, with their log if there is one."""
    log = folder / f"{keep.file_name(dataset)}.log"
    predictions = keep.predictions_path(log)
    if not predictions.exists():
        raise InputError(
            f"{predictions}: expected the links of {dataset}, found no file; let the "
            "evaluation that writes this folder finish, or leave one of the two out"
        )
    documents = _read_linked(predictions, golds, rejects)
    if (found := keep.read(log)) is None:
        return Predictions(dataset, name, documents)
    kept = join(*found)
    if len(kept.documents) != len(documents) or found[0].documents != keep.digest(
        golds
    ):
        return Predictions(dataset, name, documents)  # the log is of other labels
    return Predictions(dataset, name, kept.documents, kept)


def read_ids(path: Path, rejects: Rejects) -> dict[str, str]:
    """title -> Wikidata id from lines "title<TAB>id"; other lines go to `rejects`."""
    return _read_pairs(path, rejects, "not a title, a tab and an id")


def read_redirects(path: Path, rejects: Rejects) -> dict[str, str]:
    """alias -> title from lines "alias<TAB>title"; other lines go to `rejects`."""
    return _read_pairs(path, rejects, "not an alias, a tab and a title")


def _read_pairs(path: Path, rejects: Rejects, reason: str) -> dict[str, str]:
    table = {}
    for number, line in decode_lines(path, rejects):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) == 2 and all(fields):
            table[fields[0]] = fields[1]
        elif line.strip():
            rejects.add(str(path), number, reason, line)
    return table


def read_titles(path: Path, rejects: Rejects) -> frozenset[str]:
    """The folded titles of a file, one a line."""
    lines = (fold_title(line) for _, line in decode_lines(path, rejects))
    return frozenset(title for title in lines if title)


def name_files(paths: Sequence[Path], taken: Sequence[str] = ()) -> list[str]:
    """A name for each file: its stem, or its path where the stems are not all new."""
    stems = [path.stem.removesuffix(".benchmark") for path in paths]
    clear = len(frozenset(stems)) == len(stems) and frozenset(taken).isdisjoint(stems)
    return stems if clear else [str(path) for path in paths]


def name_systems(
    paths: Sequence[Path], sets: Sequence[str], taken: Sequence[str]
) -> list[str]:
    """A name for the system of each file of predictions, and of each folder.

    ELEVANT calls a file LINKER.BENCHMARK.linked_articles.jsonl. Where all files are
    called so, or like LINKER.SET.jsonl, the name is the linker's.
    """
    names, seen, files = [], set(), 0
    for path in paths:
        if path.is_dir():
            names.append(path.name)
            seen |= {(name, path.name) for name in sets}
            continue
        dataset = sets[files % len(sets)]
        files += 1
        stem = path.stem.removesuffix(".linked_articles")
        names.append(stem.removesuffix(f".{dataset}"))
        if names[-1] == stem or (dataset, names[-1]) in seen:
            return name_files(paths, taken)
        seen.add((dataset, names[-1]))
    return names if frozenset(taken).isdisjoint(names) else name_files(paths, taken)
