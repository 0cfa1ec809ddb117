"""Labelled documents in; how many of them link each surface form, and have it, out.

A knowledge base keeps both numbers of a form. Their ratio is the link probability.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from insgenel_jax.kb.folding import form_key
from insgenel_jax.kb.knowledge_base import Case
from insgenel_jax.kb.matcher import Matcher, starts_lower
from insgenel_jax.text.document import Document


class DocumentCounts(NamedTuple):
    """In how many documents each of N surface forms is linked, and seen at all."""

    forms: Int64[np.ndarray, " N"]  # ids in the trie, ascending
    linked: Int64[np.ndarray, " N"]
    seen: Int64[np.ndarray, " N"]  # linked, or matched by the dictionary


def count_documents(
    matcher: Matcher, documents: Iterable[Document], case: Case
) -> DocumentCounts:
    """Count the documents in which each form is linked, and in which it is seen.

    case: "capitalised" leaves out occurrences that start in lower case; "any" does not.
    """
    linked_forms, seen_forms = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for document in documents:
        text = document.text
        matches = matcher.match(text)
        forms = matches.forms
        if case == "capitalised":
            forms = forms[~starts_lower(text, matches.starts)]
        anchors = {
            matcher.form(form_key(text[mention.start : mention.end]))
            for mention in document.mentions
            if mention.entity is not None
        }
        known = sorted(form for form in anchors if form is not None)
        linked_forms.append(np.array(known, np.int64))
        seen_forms.append(np.union1d(linked_forms[-1], forms))
    forms, seen = np.unique(np.concatenate(seen_forms), return_counts=True)
    rows = np.searchsorted(forms, np.concatenate(linked_forms))
    return DocumentCounts(forms, np.bincount(rows, minlength=len(forms)), seen)


def add_counts(counts: Sequence[DocumentCounts]) -> DocumentCounts:
    """The counts over all documents, from the counts over parts of them."""
    if not counts:
        return DocumentCounts(*(np.empty(0, np.int64) for _ in range(3)))
    forms, inverse = np.unique(
        np.concatenate([part.forms for part in counts]), return_inverse=True
    )
    linked = np.concatenate([part.linked for part in counts])
    seen = np.concatenate([part.seen for part in counts])
    return DocumentCounts(
        forms,
        np.bincount(inverse, linked, len(forms)).astype(np.int64),
        np.bincount(inverse, seen, len(forms)).astype(np.int64),
    )
