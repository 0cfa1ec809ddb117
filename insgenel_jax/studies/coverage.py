"""A linker with a retriever and labelled documents in; recall@k and F1@k out.

This is the paper's table 3. A gold counts as retrieved by window where one of the
windows that overlap it has its entity among its `k` best, and by chunk where one of the
windows that overlap its chunk has: what the setting `scope` may allow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from insgenel_jax.evaluation.losses import find_entity
from insgenel_jax.evaluation.scoring import Resolve, same_entity, score
from insgenel_jax.linker import Linker
from insgenel_jax.linker.decide import Known
from insgenel_jax.retrieval.scope import Retrieved, retrieve
from insgenel_jax.studies.rows import Progress, Row, silent
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import InputError

KS = (5, 10, 20, 50, 100, 200)


def study_coverage(
    linker: Linker,
    sets: Mapping[str, Sequence[Document]],
    resolve: Resolve,
    ks: Sequence[int] = KS,
    progress: Progress = silent,
) -> list[Row]:
    """For each set, a row for each k, which takes the place of the setting `top_k`.

    All shares are of all golds with an entity, also of those whose entity is not in the
    knowledge base. Texts are searched once, for the largest k.
    Raises InputError for a linker whose system has no retriever.
    """
    if linker.settings.system != "insgenel-r":
        raise InputError(
            'coverage: expected a linker with system = "insgenel-r", found '
            f'"{linker.settings.system}"; only a retriever has a recall'
        )
    same, rows = same_entity(resolve), []
    for name, documents in sets.items():
        progress(f"searching the entities of {name}")
        texts = [document.text for document in documents]
        found = retrieve(linker.retriever, linker.index, texts, top_k=max(ks))
        for k in sorted(set(ks)):
            progress(f"linking {name} with k = {k}")
            best = [first(k, retrieved) for retrieved in found]
            limited = linker.with_settings(top_k=k)
            # so that linking uses the very search that is measured
            limited.known = Known(
                retrieved={
                    (text, k): row for text, row in zip(texts, best, strict=True)
                }
            )
            shares = count_retrieved(limited, documents, best, resolve)
            micro = score(documents, limited(documents), same=same).micro
            row = {"documents": name, "texts": len(documents), "k": k, **shares}
            row |= {"precision, %": 100 * micro.precision}
            row |= {"recall, %": 100 * micro.recall, "F1, %": 100 * micro.f1}
            rows.append(row)
    return rows


def first(k: int, retrieved: Retrieved) -> Retrieved:
    """What windows retrieve, cut to the k best entities of each."""
    return retrieved._replace(
        entities=retrieved.entities[:, :k], scores=retrieved.scores[:, :k]
    )


def count_retrieved(
    linker: Linker,
    documents: Sequence[Document],
    retrieved: Sequence[Retrieved],
    resolve: Resolve,
) -> dict[str, float]:
    """Golds, and the shares of them that are known and retrieved, in percent.

    A gold that no chunk holds, because nothing is to be decided near it, counts by
    chunk as it does by window.
    """
    chunks: list[list[tuple[int, int]]] = [[] for _ in documents]
    for chunk in linker.chunks(documents):
        chunks[chunk.document].append((chunk.start, chunk.end))
    golds = known = by_window = by_chunk = 0
    for number, document in enumerate(documents):
        for mention in document.mentions:
            if mention.entity is None:
                continue
            golds += 1
            entity = find_entity(mention, linker.kb, resolve)
            if entity is None:
                continue
            known += 1
            span = (mention.start, mention.end)
            holding = (c for c in chunks[number] if c[0] <= span[0] and span[1] <= c[1])
            chunk = next(holding, span)
            found = retrieved[number]
            by_window += entity in found.touching(*span).entities
            by_chunk += entity in found.touching(*chunk).entities
    counts = {
        "in our knowledge base, %": known,
        "recall@k by window, %": by_window,
        "recall@k by chunk, %": by_chunk,
    }
    shares = {name: 100 * count / max(golds, 1) for name, count in counts.items()}
    return {"golds": golds, **shares}
