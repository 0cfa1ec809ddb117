"""A text in; the occurrences of surface forms that may be mentions out.

The linker and the prior-only baseline
share them.
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int32

from insgenel_jax.kb.knowledge_base import Case, KnowledgeBase
from insgenel_jax.kb.matcher import starts_lower

CASES: tuple[Case, ...] = get_args(Case)


class Occurrences(NamedTuple):
    """The N dictionary matches of a text that are no stop words."""

    starts: Int32[np.ndarray, " N"]
    ends: Int32[np.ndarray, " N"]
    forms: Int32[np.ndarray, " N"]
    probability: Float32[np.ndarray, " N"]  # the link probability of the form
    lower: Bool[np.ndarray, " N"]  # whether it starts in lower case


@functools.cache
def stop_words() -> frozenset[str]:
    """Words that are no mention by themselves, unless written in capitals."""
    file = importlib.resources.files("insgenel_jax") / "assets/stop_words.txt"
    return frozenset(file.read_text(encoding="utf-8").split())


def is_stop_word(text: str) -> bool:
    """Whether a string is a stop word, in lower case or with a capital first letter."""
    return text[:1].lower() + text[1:] in stop_words()


def find_occurrences(kb: KnowledgeBase, text: str) -> Occurrences:
    """All dictionary matches of a text except stop words ("us" and "Us", not "US")."""
    starts, ends, forms = kb.matches(text)
    keep = [
        i
        for i, (start, end) in enumerate(
            zip(starts.tolist(), ends.tolist(), strict=True)
        )
        if not is_stop_word(text[start:end])
    ]
    starts, ends, forms = starts[keep], ends[keep], forms[keep]
    return Occurrences(
        starts, ends, forms, kb.link_probability(forms), starts_lower(text, starts)
    )


def passes(
    occurrences: Occurrences, case: Case, min_link_probability: float
) -> Bool[np.ndarray, " N"]:
    """Which occurrences may be mentions.

    case: "any", or "capitalised" for those that do not start in lower case (*release*).
    """
    passing = occurrences.probability >= min_link_probability
    return passing & ~occurrences.lower if case == "capitalised" else passing
