"""Training documents in; for each entity the words around its links, and how well they
explain the words around a mention, out: naive Bayes."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from insgenel_jax.kb.folding import fold
from insgenel_jax.kb.occurrences import stop_words
from insgenel_jax.text.document import WORD, Document

WINDOW = 50  # words to either side of a mention, stop words among them
# Words of all bags together that are added to each bag. (Of 50 to 5,000, and beside
# the cosine of tf-idf vectors, 1,000 was best by a little, in cross-fitting on 2,500
# mentions of held-out articles.)
SMOOTHING = 1000.0


@dataclasses.dataclass(frozen=True)
class Bags:
    """The bags of words of E entities, over V words.

    rows: entity -> row; columns: word -> column. counts: of each word in each bag.
    """

    rows: Mapping[int, int]
    columns: Mapping[str, int]
    counts: sparse.csr_array  # [E, V]

    def score(
        self,
        words: Sequence[str],
        entities: Int[np.ndarray, " n"],
        smoothing: float = SMOOTHING,
    ) -> Float[np.ndarray, " n"]:
        """How much more probable words are around each entity than around any.

        That is the mean, over those words that some bag has, of ln p(word | entity) -
        ln p(word). p(word) is the word's share of all bags together; p(word | entity)
        is its share of the entity's bag with `smoothing` words of these added. It is 0
        for an entity without links, and where no word is known.
        """
        columns = [self.columns[word] for word in words if word in self.columns]
        rows = [self.rows[entity] for entity in entities.tolist()]
        if not columns:
            return np.zeros(len(rows))
        background = self._shares[columns]
        own = self.counts[rows]
        totals = own.sum(axis=1)[:, None]
        seen = own[:, columns].toarray()  # [n, words]
        given = (seen + smoothing * background) / (totals + smoothing)
        return np.mean(np.log(given) - np.log(background), axis=1)

    @functools.cached_property
    def _shares(self) -> Float[np.ndarray, " V"]:
        """The share of each word in all bags together."""
        counts = self.counts.sum(axis=0)
        return counts / counts.sum()


def words_around(text: str, start: int, end: int, window: int = WINDOW) -> list[str]:
    """The folded words around a mention [start, end), without stop words."""
    before = WORD.findall(fold(text[:start]))[-window:]
    after = WORD.findall(fold(text[end:]))[:window]
    return [word for word in (*before, *after) if word not in stop_words()]


def collect_bags(
    documents: Iterable[Document],
    find: Callable[[str], int | None],
    entities: Collection[int],
) -> Bags:
    """The bags of some entities, from all their links in documents.

    find: from a title to the entity, None where there is none.
    """
    bags: dict[int, Counter[str]] = {entity: Counter() for entity in sorted(entities)}
    for document in documents:
        for mention in document.mentions:
            entity = None if mention.entity is None else find(mention.entity)
            if entity in bags:
                around = words_around(document.text, mention.start, mention.end)
                bags[entity].update(around)
    columns = {word: i for i, word in enumerate(sorted(set().union(*bags.values())))}
    indptr = np.cumsum([0, *map(len, bags.values())])
    indices = [columns[word] for bag in bags.values() for word in bag]
    counts = [float(count) for bag in bags.values() for count in bag.values()]
    shape = len(bags), len(columns)
    return Bags(
        rows={entity: i for i, entity in enumerate(bags)},
        columns=columns,
        counts=sparse.csr_array((counts, indices, indptr), shape),
    )
