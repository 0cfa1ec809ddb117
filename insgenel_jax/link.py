"""Link documents: python -m insgenel_jax.link --linker DIR --input FILE --output FILE"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from insgenel_jax.document import Document
from insgenel_jax.formats import Rejects, read_documents, write_documents

REJECTED = 3  # exit status of a job that finished but left something out


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
        Path | None, typer.Option(help="bad input [OUTPUT.rejects.jsonl]")
    ] = None,
    show: Annotated[int, typer.Option(help="linked documents to print")] = 0,
) -> None:
    """Link every document of a file; bad lines go to the rejects file.

    Exit status: 0, or 3 when something was rejected.
    """
    from insgenel_jax.linker import Linker

    console = Console(stderr=output == "-")
    try:
        opened = Linker.from_pretrained(linker, **parse_settings(set or []))
    except (OSError, ValueError) as error:
        console.print(f"[red]{escape(str(error))}")
        raise typer.Exit(2) from error
    if rejects is None and output != "-":
        rejects = Path(output + ".rejects.jsonl")
    began = time.perf_counter()
    with (
        Rejects(rejects) as rejected,
        Progress(
            SpinnerColumn(),
            TextColumn("{task.completed} documents"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as progress,
    ):
        documents = read_documents(input, rejected)
        linked = _watch(opened.stream(documents), progress, show, console)
        count = write_documents(output, linked)
    seconds = time.perf_counter() - began
    console.print(
        f"{count} documents, {opened.stats['links']} links, "
        f"{opened.stats['calls']} generator calls, {seconds:.1f} s"
    )
    if rejected.count:
        console.print(f"[yellow]{rejected.count} rejected, see {rejects}")
        raise typer.Exit(REJECTED)


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """key=value strings to settings; values are Python literals or plain strings."""
    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"expected key=value, found {setting!r}")
        try:
            parsed[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[key] = value
    return parsed


def highlight(document: Document) -> Text:
    """A document for the terminal: mentions underlined, each followed by its entity."""
    shown, reached = Text(), 0
    for mention in document.mentions:
        shown.append(document.text[reached : mention.start])
        shown.append(document.text[mention.start : mention.end], "bold underline")
        score = "" if mention.score is None else f" {mention.score:.2f}"
        shown.append(f" [{mention.entity or 'NIL'}{score}]", "cyan")
        reached = mention.end
    shown.append(document.text[reached:])
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
