"""Why a text's words are linked or not: python -m insgenel_jax.explain [LINKER] TEXT"""

from __future__ import annotations

import dataclasses
import itertools
import json as json_format
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.linker.bundled import NANO, locate
from insgenel_jax.linker.inputs import as_document
from insgenel_jax.text.formats.rejects import InputError

if TYPE_CHECKING:
    from insgenel_jax.linker import WordReason

# reason -> how its words look in a terminal
STYLES = {
    "linked": "bold green",
    "below threshold": "yellow",
    "another mention": "cyan",
    "refused": "red",
    "left out": "magenta",
    "not retrieved": "blue",
    "filtered": "dim italic",
    "no surface form": "dim",
}

WIDTH = 120  # characters of a row where no terminal says how many

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="[LINKER] TEXT",
        help="Linker directory, else the linker that comes with the package; a text.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Linker setting, key=value; repeatable."),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare the hash of every file first.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, with all spans.")
]


@cli.user_errors()
def main(
    words: Words, set_: Settings = None, verify: Verify = False, json: Json = False
) -> None:
    """Say for each word of a text why it is linked, or why not.

    A word may be part of several surface forms; shown is the one that got farthest.
    """
    if len(words) > 2:
        raise typer.BadParameter(
            f"expected a linker and a text, found {len(words)} arguments; put the text "
            "in quotes"
        )
    *named, text = words
    try:
        document = as_document("text", 0, text)
    except ValueError as error:  # bytes that are no UTF-8
        raise InputError(str(error)) from error
    linker = locate(named[0] if named else NANO)
    settings = cli.parse_settings(set_ or [])
    artifact.read(linker)  # before the slow imports
    cli.keep_compiled()
    cli.check_effect(settings, linker)

    from insgenel_jax.linker import Linker

    console = Console(stderr=json)
    with console.status("opening the linker"), cli.opening(linker, "linker"):
        opened = Linker.from_pretrained(linker, verify=verify, **settings)
    explained = opened.explain(document)
    if json:
        record = {"text": text, "words": [dataclasses.asdict(w) for w in explained]}
        typer.echo(json_format.dumps(record, ensure_ascii=False))
        return
    wide = not console.is_terminal  # a line of a pipe or a file is not broken
    console.print(paint(text, explained), end="\n\n", soft_wrap=wide)
    if wide:
        console.width = max(console.width, WIDTH)
    console.print(make_table(text, explained))


def paint(text: str, words: Sequence[WordReason]) -> Text:
    """A text for the terminal, each word in the colour of its reason."""
    shown = Text(text.translate(cli.CONTROLS))
    for word in words:
        shown.stylize(STYLES[word.reason], word.start, word.end)
    return shown


def make_table(text: str, words: Sequence[WordReason]) -> Table:
    """A table with a row for each group of neighbouring words that share a reason."""
    table = Table("words", "reason", "surface form", "entity", "why", box=None)
    for group in group_words(words):
        first, last = group[0], group[-1]
        style = STYLES[first.reason]
        row = [text[first.start : last.end], first.reason, "", "", ""]
        if first.spans:
            span = first.spans[0]
            why = span.detail or f"score {span.score or 0.0:.2f}"
            row[2:] = [text[span.start : span.end], span.entity or "NIL", why]
        cells = [" ".join(cell.translate(cli.CONTROLS).split()) for cell in row]
        table.add_row(
            *(Text(cell, style if i < 2 else "") for i, cell in enumerate(cells))
        )
    return table


def group_words(words: Sequence[WordReason]) -> Iterator[list[WordReason]]:
    """Neighbouring words together whose first span is the same, or that have none."""
    for _, group in itertools.groupby(words, lambda word: word.spans[:1]):
        yield list(group)


if __name__ == "__main__":
    typer.run(main)
