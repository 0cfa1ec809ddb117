"""Link documents: python -m insgenel_jax.link --linker DIR --input FILE --output FILE"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents, write_documents

# a text is not to steer the terminal that shows it
_NO_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\ufffd")


# what `Linker.stats` calls it, and what it counts
LOST = {
    "untokenised": "entities left out: the generator's tokenizer has no tokens for "
    "their titles",
    "overlong": "entities left out of some mentions: the generator has no positions for "
    "titles so long",
    "dead": "chunks without links: every beam ended in a dead end",
}


@cli.user_errors()
def main(
    linker: Annotated[Path, typer.Option(help="linker directory")],
    input: Annotated[
        str, typer.Option(help="documents: .jsonl or .txt, also .gz, .bz2; - for stdin")
    ],
    output: Annotated[str, typer.Option(help="linked documents, JSONL; - for stdout")],
    set: Annotated[
        list[str] | None, typer.Option(help="linker setting, key=value; repeatable")
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="bad input [OUTPUT.rejects.jsonl, link.rejects.jsonl for stdout]"
        ),
    ] = None,
    format: Annotated[
        Literal["jsonl", "text"] | None,
        typer.Option(help="of the input; text: a document a paragraph [by its ending]"),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="compare the hash of every file first")
    ] = False,
    show: Annotated[int, typer.Option(help="linked documents to print")] = 0,
) -> None:
    """Link every document of a file; bad lines go to the rejects file.

    Exit status: 0, or 3 when something was rejected.
    """
    if rejects is None:
        to_file = output != "-" and (
            Path(output).is_file() or not Path(output).exists()
        )
        rejects = Path(f"{output if to_file else 'link'}.rejects.jsonl")
    cli.check_input(input)
    for path in (output, rejects):
        cli.check_output(path)
    cli.check_apart([output, rejects], [input, linker])
    settings = cli.parse_settings(set or [])
    artifact.read(linker)  # before the slow imports
    cli.check_settings(settings, linker)

    from insgenel_jax.linker import Linker

    console = Console(stderr=output == "-")
    with cli.opening(linker, "linker"):
        opened = Linker.from_pretrained(linker, verify=verify, **settings)
    began = time.perf_counter()
    with (
        cli.rejecting(rejects, console) as rejected,
        Progress(
            SpinnerColumn(),
            TextColumn("{task.completed} documents"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as progress,
    ):
        documents = read_documents(input, rejected, format=format)
        linked = _watch(opened.stream(documents), progress, show, console)
        count = write_documents(output, linked)
        seconds = time.perf_counter() - began
        stats = opened.stats
        console.print(
            f"{count} documents, {stats['links']} links, {stats['calls']} generator "
            f"calls, {seconds:.1f} s"
        )
        if lost := stats["dropped"] + stats["cut"]:
            console.print(
                f"{lost} candidate mentions left out: {stats['dropped']} that start or "
                f"end inside a token, {stats['cut']} cut by a chunk"
            )
        for name, what in LOST.items():
            if lost := stats[name]:
                console.print(f"{lost} {what}")


def highlight(document: Document) -> Text:
    """A document for the terminal: mentions underlined, each followed by its entity."""
    shown, reached = Text(), 0
    text = document.text.translate(_NO_CONTROLS)
    for mention in document.mentions:
        shown.append(text[reached : mention.start])
        shown.append(text[mention.start : mention.end], "bold underline")
        score = "" if mention.score is None else f" {mention.score:.2f}"
        shown.append(f" [{mention.entity or 'NIL'}{score}]", "cyan")
        reached = mention.end
    shown.append(text[reached:])
    return shown


def _watch(
    documents: Iterable[Document], progress: Progress, show: int, console: Console
) -> Iterator[Document]:
    task = progress.add_task("link", total=None)
    for number, document in enumerate(documents):
        if number < show:
            console.print(highlight(document), end="\n\n")
        progress.advance(task)
        yield document


if __name__ == "__main__":
    typer.run(main)
