"""Labelled documents of one's own in; training documents of a knowledge base out."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator

from insgenel_jax.kb.build.training_documents import write_training_documents
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import InputError

UNKNOWN = "labels of no entity in the knowledge base"
NO_FORM = "labels that linking cannot find: no such surface form of the entity"
OVERLAPPING = "labels inside others"
UNLABELLED = "documents left out: without a label"


def write_own_documents(
    path: str | os.PathLike, documents: Iterable[Document], kb: KnowledgeBase
) -> dict[str, int]:
    """Write documents as an artifact to train from; return counts.

    A label has the title that the knowledge base has for its entity; a label of no
    entity there, or inside another one, is left out, and so is a document without a
    label. Raises InputError where no document is left.
    """
    counts: Counter[str] = Counter()
    read = _with_known_labels(documents, kb, counts)
    written = write_training_documents(path, _not_none(read), kb.path)
    return {"training documents": written, **counts}


def _with_known_labels(
    documents: Iterable[Document], kb: KnowledgeBase, counts: Counter[str]
) -> Iterator[Document]:
    for document in documents:
        labels: list[Mention] = []
        for mention in sorted(document.mentions, key=lambda m: (m.start, -m.end)):
            if mention.entity is None:
                continue
            entity = kb.find(mention.entity)
            if entity is None:
                counts[UNKNOWN] += 1
            elif labels and mention.start < labels[-1].end:
                counts[OVERLAPPING] += 1
            else:
                surface = document.text[mention.start : mention.end]
                form = kb.form(surface)
                known = form is not None and entity in kb.candidates(form)[0]
                counts["labels"] += 1
                counts[NO_FORM] += not known
                title = kb.title(entity)
                labels.append(Mention(mention.start, mention.end, title))
        if labels:
            yield dataclasses.replace(document, mentions=tuple(labels))
        else:
            counts[UNLABELLED] += 1


def _not_none(documents: Iterator[Document]) -> Iterator[Document]:
    """The documents. Raises InputError where there is none."""
    first = next(documents, None)
    if first is not None:
        yield first
        yield from documents
    else:
        raise InputError(
            "expected documents with labels of entities that the knowledge base has, "
            "found none: give the knowledge base that the labels are titles of"
        )
