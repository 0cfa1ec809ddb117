"""Text in; the dictionary matches that may be mentions out.

The filters of DESIGN.md section 6, for the linker and for the prior-only baseline alike.
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import NamedTuple

import numpy as np

from insgenel_jax.kb.knowledge_base import KnowledgeBase

CASES = ("any", "capitalised")


class Occurrences(NamedTuple):
    """Dictionary matches of a text without the stop words; columns of [N]."""

    starts: np.ndarray  # int32
    ends: np.ndarray  # int32
    forms: np.ndarray  # int32
    probability: np.ndarray  # float32, the link probability of the form
    lower: np.ndarray  # bool, whether it starts in lower case


@functools.cache
def stop_words() -> frozenset[str]:
    """Words that are no mention by themselves, unless written in capitals."""
    file = importlib.resources.files("insgenel_jax") / "assets/stop_words.txt"
    return frozenset(file.read_text(encoding="utf-8").split())


def is_stop_word(text: str) -> bool:
    """Whether a string is a stop word, in lower case or with a capital before it."""
    return text[:1].lower() + text[1:] in stop_words()


def find_occurrences(kb: KnowledgeBase, text: str) -> Occurrences:
    """All dictionary matches of a text but the stop words ("us", "Us"; not "US")."""
    starts, ends, forms = kb.matches(text)
    keep, lower = [], []
    for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        if not is_stop_word(text[start:end]):
            keep.append(i)
            lower.append(text[start].islower())
    forms = forms[keep]
    probability = kb.link_probability(forms)
    return Occurrences(
        starts[keep], ends[keep], forms, probability, np.array(lower, bool)
    )


def passes(
    occurrences: Occurrences, case: str, min_link_probability: float
) -> np.ndarray:
    """Which occurrences may be mentions, bool [N].

    case: "any", or "capitalised" for those that do not start in lower case (*release*).
    """
    passing = occurrences.probability >= min_link_probability
    return passing & ~occurrences.lower if case == "capitalised" else passing
