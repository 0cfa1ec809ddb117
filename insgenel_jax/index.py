"""Entry point: index a knowledge base, and put a linker together if asked to.

python -m insgenel_jax.index --kb DIR --retriever DIR --out DIR
python -m insgenel_jax.index --kb DIR --generator DIR --linker DIR
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.ahead.options import CompileOnly, Topology
from insgenel_jax.kb.knowledge_base import KnowledgeBase

if TYPE_CHECKING:
    from insgenel_jax.retrieval.build import Indexed
    from insgenel_jax.retrieval.retriever import Retriever


# A share of entities that are found by their titles. The retriever trained on 784,936
# entities of Wikipedia finds 41 % of them so.
FEW = 0.1

RetrieverPath = Annotated[
    Path | None,
    typer.Option(help="retriever directory; without one, --linker is INSGENEL"),
]
Out = Annotated[
    Path | None, typer.Option(help="index directory to write, with --retriever")
]

Texts = Annotated[
    Path | None,
    typer.Option(
        help="knowledge base whose texts of the entities are embedded",
        show_default="--kb",
    ),
]
Exact = Annotated[
    bool | None,
    typer.Option(
        "--exact/--scann", help="how to search", show_default="by the entities' number"
    ),
]
IndexPath = Annotated[
    Path | None,
    typer.Option(
        "--index", help="index of these parts that is there already, for --linker"
    ),
]
VectorBytes = Annotated[
    int | None,
    typer.Option(
        help="most bytes of a vector, searched exactly",
        show_default="2 for each dimension",
    ),
]
BaseIndex = Annotated[
    Path | None,
    typer.Option(
        help="index of the base of --kb, an overlay: only added entities are embedded"
    ),
]
GeneratorPath = Annotated[
    Path | None, typer.Option(help="generator directory, for --linker")
]
LinkerPath = Annotated[
    Path | None, typer.Option(help="linker directory to put together from all parts")
]


VectorBytes = Annotated[
    int | None,
    typer.Option(
        help="most bytes of a vector, searched exactly",
        show_default="2 for each dimension",
    ),
]

Settings = Annotated[list[str] | None, cli.settings_option(cli.linker_settings)]
Verify = Annotated[
    bool, typer.Option("--verify", help="compare the hash of every file first")
]


@cli.user_errors()
def main(
    kb: Annotated[Path, typer.Option(help="knowledge base directory")],
    retriever: RetrieverPath = None,
    out: Out = None,
    exact: Exact = None,
    vector_bytes: VectorBytes = None,
    texts: Texts = None,
    base_index: BaseIndex = None,
    there: IndexPath = None,
    generator: GeneratorPath = None,
    linker: LinkerPath = None,
    set: Settings = None,
    verify: Verify = False,
    compile_only: CompileOnly = False,
    topology: Topology = None,
) -> None:
    """Embed all entities, write their index, and put a linker together if asked to."""
    if compile_only:
        return _compile_embedding(retriever, topology)
    _check_options(
        linker,
        {"--retriever": retriever, "--out": out},
        {
            "--texts": texts,
            "--vector-bytes": vector_bytes,
            "--exact/--scann": exact,
            "--base-index": base_index,
        },
        there,
        generator,
        set,
    )
    given = {"kb": kb, "retriever": retriever, "generator": generator}
    parts = {name: path for name, path in given.items() if path is not None}
    others = {"texts": texts, "index": there, "base index": base_index}
    read = parts | {name: path for name, path in others.items() if path is not None}
    settings = cli.parse_settings(set or [])
    unindexed = not out and not there
    if unindexed and settings.setdefault("system", "insgenel") != "insgenel":
        raise typer.BadParameter(f"--set system={settings['system']}: add --retriever")
    _check_targets(out, linker, read)
    if linker is not None:
        cli.check_settings(settings, linker, new=True)
    console = Console()
    if out is None:
        _open_parts(read, verify)
    else:
        indexed = _index(read, out, exact, vector_bytes, verify, console)
        _show(console, out, indexed)
        settings = _choose_system(indexed.found, settings, console)
    if linker is not None:
        from insgenel_jax.linker import assemble

        assemble(linker, **parts, index=out or there, settings=settings)
        console.print(Text(f"linker: {linker}"))


def _compile_embedding(retriever: Path | None, topology: str | None) -> None:
    """Compile the embedding of entities for a slice of TPUs; say what it takes."""
    from insgenel_jax.ahead.command import report_indexing

    if retriever is None:
        raise typer.BadParameter("--compile-only needs --retriever")
    report_indexing(retriever, topology)


def _check_options(
    linker: Path | None,
    indexing: dict[str, Path | None],
    of_an_index: dict[str, Path | int | None],
    there: Path | None,
    generator: Path | None,
    settings: list[str] | None,
) -> None:
    """Refuse options that do not go together. Raises typer.BadParameter.

    indexing: the options that an index needs. of_an_index: those without effect where
    none is made. there: an index that is used as it is.
    """
    if (generator is None) != (linker is None):
        raise typer.BadParameter("--generator and --linker go together")
    if settings and linker is None:
        raise typer.BadParameter("--set goes with --linker, which keeps the settings")
    if of_an_index["--vector-bytes"] and of_an_index["--exact/--scann"] is False:
        raise typer.BadParameter(
            "--vector-bytes searches exactly: leave out it or --scann"
        )
    missing = [name for name, path in indexing.items() if path is None]
    useless = [name for name, value in of_an_index.items() if value is not None]
    if there is not None:
        useless += [] if indexing["--out"] is None else ["--out"]
        if useless:
            raise typer.BadParameter(f"{', '.join(useless)}: no effect with --index")
        if indexing["--retriever"] is None or linker is None:
            raise typer.BadParameter("--index goes with --retriever and --linker")
        return
    if len(missing) == 1 or (missing and linker is None):
        raise typer.BadParameter(f"an index needs {' and '.join(missing)}")
    if missing and useless:
        raise typer.BadParameter(f"{', '.join(useless)}: no effect without --retriever")


def _check_targets(
    out: Path | None, linker: Path | None, parts: dict[str, Path]
) -> None:
    """Refuse paths that cannot be written to, or that overlap with a part."""
    given = {"index": out, "linker": linker}
    targets = {kind: path for kind, path in given.items() if path is not None}
    for kind, path in targets.items():
        cli.check_target(path, kind)
    cli.check_apart(targets.values(), parts.values())


def _open_parts(
    parts: dict[str, Path], verify: bool
) -> tuple[KnowledgeBase, KnowledgeBase | None, Retriever | None]:
    """Open every part: the knowledge base, that of the texts, and the retriever.

    The generator and an index that is there are opened too: what is wrong with them
    should be said before an hour of embedding, not after.
    """
    with cli.opening(parts["kb"], "knowledge base"):
        kb = KnowledgeBase.open(parts["kb"], verify=verify)
    texts = retriever = None
    if "texts" in parts:
        with cli.opening(parts["texts"], "knowledge base"):
            texts = KnowledgeBase.open(parts["texts"], verify=verify)

    from insgenel_jax.generator import load_generator
    from insgenel_jax.retrieval.retriever import Retriever

    if "generator" in parts:
        with cli.opening(parts["generator"], "generator"):
            load_generator(parts["generator"], verify=verify)
    if "retriever" in parts:
        with cli.opening(parts["retriever"], "retriever"):
            retriever = Retriever.load(parts["retriever"], verify=verify)
    for part in ("index", "base index"):
        if part in parts:
            from insgenel_jax.retrieval.index import open_index

            with cli.opening(parts[part], "index"):
                open_index(parts[part], verify=verify)
    return kb, texts, retriever


def _index(
    parts: dict[str, Path],
    out: Path,
    exact: bool | None,
    vector_bytes: int | None,
    verify: bool,
    console: Console,
) -> Indexed:
    """Open every part, then index the entities."""
    kb, texts, retriever = _open_parts(parts, verify)
    from insgenel_jax.retrieval.build import index_entities

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
            base=parts.get("base index"),
            tell=status.update,
        )


def _choose_system(
    found: float, settings: dict[str, Any], console: Console
) -> dict[str, Any]:
    """The settings, with INSGENEL for a retriever that finds almost nothing.

    Then a warning says so. found: see `Indexed`.
    """
    if found >= FEW:
        return settings
    chosen = {"system": "insgenel"} | settings
    console.print(
        Text(
            f"warning: the retriever finds {found:.0%} of entities by their titles: "
            "it was trained on others, or hardly at all. INSGENEL-R links only what it "
            f"finds; a linker here is made with system={chosen['system']}",
            "yellow",
        ),
        soft_wrap=True,
    )
    return chosen


def _show(console: Console, out: Path, indexed: Indexed) -> None:
    index = indexed.index
    table = Table(title=Text(f"index {out}"), show_header=False)
    table.add_row("entities", f"{index.entities} x {index.dim}")
    if index.projection is not None:
        table.add_row("vectors", f"of {index.projection.shape[1]} numbers, rounded")
    table.add_row("search", f"{index.method}, recall {index.recall:.3f} of exact")
    table.add_row("found by their titles", f"{indexed.found:.0%} of the entities")
    table.add_row("embedding", f"{indexed.embedding_seconds:.1f} s")
    table.add_row("building", f"{indexed.building_seconds:.1f} s")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
