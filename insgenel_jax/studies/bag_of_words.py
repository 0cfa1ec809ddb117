"""Training documents in; for each entity the words around its links, and how like the
words around a mention they are, out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from insgenel_jax.kb.folding import fold
from insgenel_jax.kb.occurrences import stop_words
from insgenel_jax.text.document import WORD, Document

WINDOW = 50  # words to either side of a mention, stop words among them


@dataclasses.dataclass(frozen=True)
class Bags:
    """The bags of words of E entities over V words, as tf-idf vectors of length 1.

    A word weighs (1 + ln tf) * ln((1 + E) / (1 + df)); df is how many of the bags have
    it. An entity without links has a vector of zeros. rows: entity -> its vector's row;
    columns: word -> column.
    """

    rows: Mapping[int, int]
    columns: Mapping[str, int]
    idf: Float[np.ndarray, " V"]
    vectors: sparse.csr_array

    def score(
        self, words: Sequence[str], entities: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """The cosine of each entity's vector and that of the words around a mention."""
        rows = [self.rows[entity] for entity in entities.tolist()]
        query = _weigh(_count([Counter(words)], self.columns), self.idf)
        return (self.vectors[rows] @ query.T).toarray()[:, 0]


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
    counts = _count(list(bags.values()), columns)
    df = np.bincount(counts.indices, minlength=len(columns))
    idf = np.log((1 + len(bags)) / (1 + df))
    rows = {entity: i for i, entity in enumerate(bags)}
    return Bags(rows, columns, idf, _weigh(counts, idf))


def _count(
    bags: Sequence[Counter[str]], columns: Mapping[str, int]
) -> sparse.csr_array:
    """The counts of the known words, a row for each bag."""
    known = [{columns[w]: n for w, n in bag.items() if w in columns} for bag in bags]
    indptr = np.cumsum([0, *map(len, known)])
    indices = np.array([column for bag in known for column in bag], np.int64)
    counts = np.array([count for bag in known for count in bag.values()], np.float64)
    return sparse.csr_array((counts, indices, indptr), (len(bags), len(columns)))


def _weigh(counts: sparse.csr_array, idf: Float[np.ndarray, " V"]) -> sparse.csr_array:
    """Counts as tf-idf vectors of length 1; a row without weight stays zero."""
    weights = (1 + np.log(counts.data)) * idf[counts.indices]
    weighed = sparse.csr_array((weights, counts.indices, counts.indptr), counts.shape)
    lengths = np.sqrt((weighed**2).sum(axis=1))
    scale = np.divide(1, lengths, out=np.zeros(len(lengths)), where=lengths > 0)
    return sparse.csr_array(sparse.diags_array(scale) @ weighed)
