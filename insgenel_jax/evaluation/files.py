"""Files of documents, predictions, redirects and titles in; what they hold out.

Lines that cannot be read go to the rejects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from insgenel_jax.evaluation import scoring
from insgenel_jax.evaluation.run import Predictions
from insgenel_jax.kb.folding import fold_title
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import InputError, Rejects


def read_gold(path: Path, rejects: Rejects) -> list[Document]:
    """The labelled documents of a file. Raises InputError where there is none."""
    documents = list(read_documents(path, rejects))
    if not documents:
        raise InputError(
            f"{path}: expected labelled documents, one a line, found none that can be "
            "read; check the file"
        )
    return documents


def read_sets(paths: Sequence[Path], rejects: Rejects) -> dict[str, list[Document]]:
    """Labelled documents by the name of their set."""
    names = name_files(paths)
    return {
        name: read_gold(path, rejects) for name, path in zip(names, paths, strict=True)
    }


def read_predictions(
    paths: Sequence[Path],
    sets: Mapping[str, Sequence[Document]],
    systems: Sequence[str],
    rejects: Rejects,
) -> list[Predictions]:
    """Documents linked already: a file for each set, in order, or no file at all.

    systems: names that the files may not take. Raises InputError, before any system
    runs, for a file whose documents are not those of its set.
    """
    if not paths:
        return []
    predictions = []
    for path, name, dataset in zip(
        paths, name_files(paths, systems), sets, strict=True
    ):
        documents = list(read_documents(path, rejects))
        try:
            scoring.pair_documents(sets[dataset], documents)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        predictions.append(Predictions(dataset, name, documents))
    return predictions


def read_redirects(path: Path, rejects: Rejects) -> dict[str, str]:
    """alias -> title from lines "alias<TAB>title"; other lines go to `rejects`."""
    table = {}
    for number, line in decode_lines(path, rejects):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) == 2 and all(fields):
            table[fields[0]] = fields[1]
        elif line.strip():
            rejects.add(str(path), number, "not an alias, a tab and a title", line)
    return table


def read_titles(path: Path, rejects: Rejects) -> frozenset[str]:
    """The folded titles of a file, one a line."""
    lines = (fold_title(line) for _, line in decode_lines(path, rejects))
    return frozenset(title for title in lines if title)


def name_files(paths: Sequence[Path], taken: Sequence[str] = ()) -> list[str]:
    """A name for each file: its stem, or its path where the stems are not all new."""
    stems = [path.stem for path in paths]
    clear = len(frozenset(stems)) == len(stems) and frozenset(taken).isdisjoint(stems)
    return stems if clear else [str(path) for path in paths]
