"""Entry point: index a knowledge base, and put a linker together if asked to.

python -m insgenel_jax.index --kb DIR --retriever DIR --out DIR
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.kb.knowledge_base import KnowledgeBase

if TYPE_CHECKING:
    from insgenel_jax.retrieval.build import Indexed


@cli.user_errors()
def main(
    kb: Annotated[Path, typer.Option(help="knowledge base directory")],
    retriever: Annotated[Path, typer.Option(help="retriever directory")],
    out: Annotated[Path, typer.Option(help="index directory to write")],
    exact: Annotated[
        bool | None,
        typer.Option("--exact/--scann", help="how to search [by the entities' number]"),
    ] = None,
    vector_bytes: Annotated[
        int | None,
        typer.Option(
            help="most bytes of a vector, searched exactly [2 for each dimension]"
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="knowledge base whose texts of the entities are embedded [--kb]"
        ),
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
    if vector_bytes is not None and exact is False:
        raise typer.BadParameter(
            "--vector-bytes searches exactly: leave out it or --scann"
        )
    parts = {"kb": kb, "retriever": retriever}
    if generator is not None:
        parts["generator"] = generator
    read = parts if texts is None else parts | {"texts": texts}
    _check_targets(out, linker, read)
    settings = cli.parse_settings(set or [])
    if linker is not None:
        cli.check_settings(settings, linker, new=True)
    console = Console()
    indexed = _index(read, out, exact, vector_bytes, verify, console)
    _show(console, out, indexed)
    if linker is not None:
        from insgenel_jax.linker import assemble

        assemble(linker, **parts, index=out, settings=settings)
        console.print(Text(f"linker: {linker}"))


def _check_targets(out: Path, linker: Path | None, parts: dict[str, Path]) -> None:
    """Refuse paths that cannot be written to, or that overlap with a part."""
    targets = {"index": out} if linker is None else {"index": out, "linker": linker}
    for kind, path in targets.items():
        cli.check_target(path, kind)
    cli.check_apart(targets.values(), parts.values())


def _index(
    parts: dict[str, Path],
    out: Path,
    exact: bool | None,
    vector_bytes: int | None,
    verify: bool,
    console: Console,
) -> Indexed:
    """Open every part, then index the entities.

    The generator is opened too: what is wrong with it should be said before an hour of
    embedding, not after.
    """
    with cli.opening(parts["kb"], "knowledge base"):
        kb = KnowledgeBase.open(parts["kb"], verify=verify)
    texts = None
    if "texts" in parts:
        with cli.opening(parts["texts"], "knowledge base"):
            texts = KnowledgeBase.open(parts["texts"], verify=verify)

    from insgenel_jax.generator import load_generator
    from insgenel_jax.retrieval.build import index_entities
    from insgenel_jax.retrieval.retriever import Retriever

    if "generator" in parts:
        with cli.opening(parts["generator"], "generator"):
            load_generator(parts["generator"], verify=verify)
    with cli.opening(parts["retriever"], "retriever"):
        retriever = Retriever.load(parts["retriever"], verify=verify)
    made_from = {
        "knowledge-base": kb.identity,
        "retriever": artifact.identity(parts["retriever"]),
    }
    if texts is not None:
        made_from["texts"] = texts.identity
    with console.status("") as status:
        return index_entities(
            kb,
            retriever,
            out,
            made_from=made_from,
            exact=exact,
            vector_bytes=vector_bytes,
            texts=texts,
            tell=status.update,
        )


def _show(console: Console, out: Path, indexed: Indexed) -> None:
    index = indexed.index
    table = Table(title=Text(f"index {out}"), show_header=False)
    table.add_row("entities", f"{index.entities} x {index.dim}")
    if index.projection is not None:
        table.add_row("vectors", f"of {index.projection.shape[1]} numbers, rounded")
    table.add_row("search", f"{index.method}, recall {index.recall:.3f} of exact")
    table.add_row("embedding", f"{indexed.embedding_seconds:.1f} s")
    table.add_row("building", f"{indexed.building_seconds:.1f} s")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
