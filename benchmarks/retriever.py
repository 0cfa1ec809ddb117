"""Recall of a retriever, for every window, over all entities of a knowledge base.

    python benchmarks/retriever.py --retriever DIR --kb DIR --documents FILE ... \
        [--embeddings INDEX] [--most 200] [--json OUT]

FILE is labelled text that the retriever was not trained on, such as the dev.jsonl of
`prepare`; each has a row of its own. INDEX: an index directory of this knowledge base
and retriever, whose embeddings are taken instead of made anew. Of the entities that the
mentions inside a window name, how many are among the k of highest score? The search is
exact. Golds that the knowledge base does not have are counted apart, since no retriever
finds them.
"""

from __future__ import annotations

import collections
import itertools
import json as jsonlib
import platform
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from jaxtyping import Float, Int
from rich.console import Console
from tables import as_table  # beside this script

from insgenel_jax import artifact
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.retrieval.exact import search_exact
from insgenel_jax.retrieval.index import read_embeddings
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.training.data.windows import expand_document
from insgenel_jax.training.settings import RetrieverData

KS = (1, 10, 50, 100)


def main(
    retriever: Annotated[Path, typer.Option(help="retriever directory")],
    kb: Annotated[Path, typer.Option(help="knowledge base directory")],
    documents: Annotated[
        list[Path], typer.Option(help="labelled documents, JSON lines; repeatable")
    ],
    embeddings: Annotated[Path | None, typer.Option(help="index directory")] = None,
    most: Annotated[int, typer.Option(help="how many of the documents")] = 200,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Embed all entities and the windows, and print how many golds are found."""
    opened, base = Retriever.load(retriever), KnowledgeBase.open(kb)
    began = time.perf_counter()
    vectors = read_vectors(opened, retriever, base, embeddings)
    console, rows = Console(), []
    console.print(
        {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "retriever": str(retriever),
            "entities": len(base),
            "seconds to embed or read them": round(time.perf_counter() - began, 1),
        }
    )
    for path in documents:
        windows, counts = read_windows(opened, base, path, most)
        tokens = np.stack([window["window"] for window in windows])
        queries = opened.embed_tokens("mention", tokens)
        found, _ = search_exact(vectors, queries, min(max(KS), len(base)))
        about = {"documents": path.stem, "windows": len(windows), **counts}
        rows.append(about | recall(found, [window["golds"] for window in windows]))
    console.print(as_table("Recall over the whole knowledge base", rows, ".3f"))
    if json:
        json.write_text(jsonlib.dumps(rows, indent=1) + "\n")


def read_vectors(
    retriever: Retriever, path: Path, kb: KnowledgeBase, index: Path | None
) -> Float[np.ndarray, "E D"]:
    """The embeddings of all entities, those of an index directory if there is one."""
    if index is None:
        return np.asarray(retriever.embed_entities(kb)[:].read().result(), np.float32)
    made_from = artifact.read(index).made_from
    expected = {"knowledge-base": kb.identity}
    expected["retriever"] = artifact.identity(path)
    if made_from != expected:
        raise typer.BadParameter(f"{index}: made from {made_from}, not {expected}")
    stored = read_embeddings(index)
    if stored is None:
        raise typer.BadParameter(f"{index}: its vectors are compressed")
    return np.asarray(stored[:].read().result(), np.float32)


def read_windows(
    retriever: Retriever, kb: KnowledgeBase, documents: Path, most: int
) -> tuple[list[dict], dict[str, int]]:
    """The windows with golds of the documents, as training makes them, and counts."""
    sizes = {
        name: getattr(retriever, name)
        for name in ("window_length", "stride", "window_tokens", "entity_tokens")
    }
    data = RetrieverData("", batch=1, golds=1, negatives=1, kb="", **sizes)
    counts = collections.Counter[str]()
    windows: list[dict] = []
    for document in itertools.islice(read_documents(documents, Rejects()), most):
        windows += expand_document(retriever.tokenizer, kb, data, document, counts)
    if not windows:
        raise typer.BadParameter(f"{documents}: no window has a known entity")
    return windows, dict(counts)


def recall(
    found: Int[np.ndarray, "N K"], golds: list[Int[np.ndarray, " G"]]
) -> dict[str, float]:
    """The share of the golds of all windows that are among the first k found."""
    pairs = [(row, gold) for row, of_window in enumerate(golds) for gold in of_window]
    rows, entities = np.array(pairs, np.int64).T
    hits = found[rows] == entities[:, None]
    return {f"recall@{k}": float(hits[:, :k].any(1).mean()) for k in KS}


if __name__ == "__main__":
    typer.run(main)
