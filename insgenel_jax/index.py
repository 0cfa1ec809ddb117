"""Index a knowledge base: python -m insgenel_jax.index --kb DIR --retriever DIR --out DIR"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text import chunking


@cli.user_errors()
def main(
    kb: Annotated[Path, typer.Option(help="knowledge base directory")],
    retriever: Annotated[Path, typer.Option(help="retriever directory")],
    out: Annotated[Path, typer.Option(help="index directory to write")],
    exact: Annotated[
        bool | None,
        typer.Option("--exact/--scann", help="how to search [by the entities' number]"),
    ] = None,
    generator: Annotated[
        Path | None, typer.Option(help="generator directory, for --linker")
    ] = None,
    linker: Annotated[
        Path | None,
        typer.Option(help="linker directory to put together from all parts"),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(help="setting that --linker keeps, key=value; repeatable"),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="compare the hash of every file first")
    ] = False,
) -> None:
    """Embed all entities, write their index, and put a linker together if asked to."""
    if (generator is None) != (linker is None):
        raise typer.BadParameter("--generator and --linker go together")
    if set and linker is None:
        raise typer.BadParameter("--set goes with --linker, which keeps the settings")
    parts = {"kb": kb, "retriever": retriever, "generator": generator}
    parts = {name: path for name, path in parts.items() if path is not None}
    targets = {"index": out, "linker": linker}
    targets = {kind: path for kind, path in targets.items() if path is not None}
    for kind, path in targets.items():
        cli.check_target(path, kind)
    cli.check_apart(targets.values(), parts.values())
    settings = cli.parse_settings(set or [])
    if linker is not None:
        cli.check_settings(settings, linker, new=True)
    with cli.opening(kb, "knowledge base"):
        opened = KnowledgeBase.open(kb, verify=verify)

    from insgenel_jax.generator import load_generator
    from insgenel_jax.linker.directory import assemble
    from insgenel_jax.retrieval.index import SAMPLES, build_index
    from insgenel_jax.retrieval.retriever import Retriever

    console = Console()
    if generator is not None:  # an error of it is not to come after the embedding
        with cli.opening(generator, "generator"):
            if verify:
                found = artifact.read(generator)
                artifact.check(generator, found.kind, found.version, verify=True)
            load_generator(generator)
    with cli.opening(retriever, "retriever"):
        model = Retriever.load(retriever, verify=verify)
    made_from = {
        "knowledge-base": opened.identity,
        "retriever": artifact.identity(retriever),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=".embeddings.", dir=out.parent) as folder:
        with console.status(f"embedding {len(opened)} entities"):
            embeddings = model.embed_entities(opened, Path(folder) / "embeddings")
        embedded = time.perf_counter()
        with console.status("building the index"):
            windows = sample_windows(opened, model.window_length, SAMPLES)
            queries = model.embed_windows(windows) if windows else None
            index = build_index(
                embeddings, out, made_from=made_from, exact=exact, queries=queries
            )
    built = time.perf_counter()
    table = Table(title=Text(f"index {out}"), show_header=False)
    table.add_row("entities", f"{index.entities} x {index.dim}")
    table.add_row("search", f"{index.method}, recall {index.recall:.3f} of exact")
    table.add_row("embedding", f"{embedded - began:.1f} s")
    table.add_row("building", f"{built - embedded:.1f} s")
    console.print(table)
    if linker is not None:
        assemble(linker, **parts, index=out, settings=settings)
        console.print(Text(f"linker: {linker}"))


def sample_windows(kb: KnowledgeBase, length: int, count: int) -> list[str]:
    """Text as the retriever will see it: the first window of some descriptions."""
    rows = np.random.default_rng(0).permutation(len(kb))
    texts = []
    for row in rows.tolist():
        text = kb.description(row)
        texts += [
            text[slice(*span)] for span in chunking.windows(text, length, length)[:1]
        ]
        if len(texts) == count:
            break
    return texts


if __name__ == "__main__":
    typer.run(main)
