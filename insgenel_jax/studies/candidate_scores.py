"""Given mentions with their candidates in; what the retriever and the generator say of
each candidate out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.decoding import tree
from insgenel_jax.decoding.options import Options
from insgenel_jax.linker import Linker
from insgenel_jax.linker.batches import decode_chunks
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text import chunking
from insgenel_jax.text.document import Document


@dataclasses.dataclass(frozen=True)
class Gold:
    """A gold mention [start, end) of document number `document`, with n candidates.

    entities: the candidates, highest prior first; log_prior: ln p(entity | surface
    form) among them; gold: which of them is right.
    """

    document: int
    start: int
    end: int
    entities: Int[np.ndarray, " n"]
    log_prior: Float[np.ndarray, " n"]
    gold: int


def score_by_retriever(
    retriever: Retriever,
    index: Index,
    documents: Sequence[Document],
    golds: Sequence[Gold],
) -> list[Float[np.ndarray, " _"]]:
    """The retriever's score of each gold's candidates, as the index has them.

    An entity's score is the best among the windows that overlap the mention.
    """
    texts: dict[str, int] = {}  # a window -> its row
    rows = []
    for gold in golds:
        text = documents[gold.document].text
        spans = chunking.windows(text, retriever.window_length, retriever.stride)
        over = [text[a:b] for a, b in spans if a < gold.end and gold.start < b]
        rows.append([texts.setdefault(window, len(texts)) for window in over])
    windows = retriever.embed_windows(list(texts))
    return [
        index.score(windows[of_gold], gold.entities).max(0)
        for gold, of_gold in zip(golds, rows, strict=True)
    ]


def score_by_generator(
    linker: Linker, documents: Sequence[Document], golds: Sequence[Gold]
) -> list[Float[np.ndarray, " _"] | None]:
    """ln p of each candidate's title at its gold, given that the mention is linked.

    All labelled mentions of a document are given to the linker. It links by its own
    weights, so that the links before a mention are those that it would have written;
    the scores themselves are the generator's, without priors. A candidate whose title
    has the tokens of another's shares its score. None for a mention that is not
    scored: it starts or ends inside a token, no chunk holds it with all its
    candidates, or it starts inside one that was linked.
    """
    # every candidate of the dictionary is allowed, also those that are not retrieved
    linker = linker.with_settings(system="insgenel", titles="candidates")
    scored = sorted({gold.document for gold in golds})
    given = [
        sorted(
            {(m.start, m.end) for m in documents[i].mentions if m.entity is not None}
        )
        for i in scored
    ]
    chunks = linker.chunks([documents[i] for i in scored], given)
    paths = decode_chunks(
        linker.generator,
        chunks,
        tree,
        Options(titles_scored=True),
        batch=linker.settings.batch,
        batch_tokens=linker.settings.batch_tokens,
    )
    found: dict[tuple[int, int, int], dict[int, float]] = {}
    for chunk, path in zip(chunks, paths, strict=True):
        for mention, entities, _, unbiased in path.titles:  # of a mention, the last
            inside = chunk.chunk.table.mentions[mention][2]
            start, end = chunk.start + inside.start, chunk.start + inside.end
            place = scored[chunk.document], start, end
            found[place] = dict(zip(entities.tolist(), unbiased.tolist(), strict=True))
    return [
        _in_order(linker, gold, found.get((gold.document, gold.start, gold.end), {}))
        for gold in golds
    ]


def _in_order(
    linker: Linker, gold: Gold, found: dict[int, float]
) -> Float[np.ndarray, " _"] | None:
    """The scores of a gold's candidates, in their order; None where one has none."""
    tokens = linker.title_tokens
    tokens.encode(gold.entities.tolist())
    if not all(tokens.length(entity) for entity in gold.entities.tolist()):
        return None
    by_title = {tuple(tokens[entity]): score for entity, score in found.items()}
    scores = [by_title.get(tuple(tokens[e])) for e in gold.entities.tolist()]
    known = [score for score in scores if score is not None]
    return np.array(known) if len(known) == len(scores) else None
