"""Link texts, or a file: python -m insgenel_jax.link "a text"

python -m insgenel_jax.link --linker DIR --input FILE --output FILE
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from insgenel_jax import artifact, cli, stopping
from insgenel_jax.linker.bundled import NANO, locate
from insgenel_jax.linker.inputs import as_documents
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import (
    FormatName,
    WrittenName,
    write_documents,
)
from insgenel_jax.text.formats.rejects import InputError

# name in `Linker.stats` -> what it counts
LOST = {
    "untokenised": "entities left out: the generator's tokenizer has no tokens for "
    "their titles",
    "overlong": "entities left out of some mentions: the generator has no positions "
    "for titles so long",
    "dead": "chunks without links: every beam ended in a dead end",
}


Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="Texts to link, in place of --input."),
]
LinkerPath = Annotated[
    Path,
    typer.Option(help="Linker directory; nano is the one that comes with the package."),
]
Input = Annotated[
    str | None,
    typer.Option(
        help="Documents: JSONL, .txt, .ttl (NIF) and more, see --format; also .gz or "
        ".bz2; - for stdin."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        help="File for linked documents; - for stdout. Texts are shown where it is "
        "left out."
    ),
]
Settings = Annotated[
    list[str] | None,
    cli.settings_option(cli.linker_settings),
]
RejectsPath = Annotated[
    Path | None,
    typer.Option(
        help="File for bad input; else OUTPUT.rejects.jsonl, or link.rejects.jsonl "
        "where the output is no file."
    ),
]
Format = Annotated[
    FormatName | None,
    typer.Option(
        help="Format of the input; else by its ending. In text, each paragraph is a "
        "document."
    ),
]
OutputFormat = Annotated[
    WrittenName | None,
    typer.Option(help="Format of the output; else by its ending, or JSONL."),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare the hash of every file first.")
]
Given = Annotated[
    bool,
    typer.Option("--given", help="Link the mentions that each document has already."),
]
Html = Annotated[
    bool,
    typer.Option(
        "--html", help="Write a page that shows the links, to --output or stdout."
    ),
]
Show = Annotated[int, typer.Option(help="Linked documents of the input to print.")]


@cli.user_errors()
def main(
    texts: Texts = None,
    linker: LinkerPath = Path(NANO),
    input: Input = None,
    output: Output = None,
    set_: Settings = None,
    rejects: RejectsPath = None,
    format: Format = None,
    output_format: OutputFormat = None,
    verify: Verify = False,
    given: Given = False,
    show: Show = 0,
    html: Html = False,
) -> None:
    """Link texts and show their links, or link every document of a file.

    Bad lines of the file go to the rejects file. Exit status: 0; 3 when something was
    rejected; 130 or 143 when told to stop, and no output file is written.
    """
    if html:
        output, output_format = output or "-", "html"
    of_a_file = {"--rejects": rejects, "--format": format, "--show": show}
    of_a_file["--given"] = given
    check_options(texts, input, output, [o for o, v in of_a_file.items() if v])
    documents = read_texts(texts or [])
    linker = locate(linker)
    if input and output:
        rejects = rejects or name_rejects(output)
    check_paths(linker, input, [path for path in (output, rejects) if path])
    settings = cli.parse_settings(set_ or [])
    artifact.read(linker)  # before the slow imports
    cli.check_effect(settings, linker, given=given)

    from insgenel_jax.linker import Linker
    from insgenel_jax.linker.files import link_file

    console = Console(stderr=output == "-")
    with stopping.stop_requests() as stop:
        with console.status("opening the linker"), cli.opening(linker, "linker"):
            opened = Linker.from_pretrained(linker, verify=verify, **settings)
        if documents:
            show_texts(console, opened(documents), output, output_format)
            stop.check()
            return
        with cli.rejecting(rejects, console) as rejected:
            with cli.show_progress(console, cli.input_size(input or "-")) as line:
                watch = functools.partial(show_progress, line, show)
                summary = link_file(
                    opened,
                    input,
                    output,
                    rejected,
                    format=format,
                    output_format=output_format,
                    given=given,
                    watch=watch,
                    stop=stop,
                )
            print_summary(console, summary.documents, summary.stats, summary.seconds)


def check_options(
    texts: Sequence[str] | None,
    input: str | None,
    output: str | None,
    of_a_file: Sequence[str],
) -> None:
    """Refuse options that do not go together. Raises typer.BadParameter.

    of_a_file: the options given that have no effect on texts.
    """
    problem = None
    if texts and input:
        problem = f"expected texts or --input, found {len(texts)} texts and {input}"
    elif not texts and not input:
        problem = 'expected a text, as in: insgenel link "Paris is in France.", or '
        problem += "--input FILE --output FILE"
    elif input and not output:
        problem = f"--input {input} expects --output: a file, or - for standard output"
    elif texts and of_a_file:
        problem = f"{', '.join(of_a_file)}: no effect on texts, leave it out"
    if problem:
        raise typer.BadParameter(problem)


def read_texts(texts: Sequence[str]) -> list[Document]:
    """The documents of texts that were given as arguments. Raises InputError."""
    try:
        return as_documents(texts)
    except ValueError as error:  # bytes that are no UTF-8
        raise InputError(str(error)) from error


def check_paths(linker: Path, input: str | None, outputs: Sequence[str | Path]) -> None:
    """Refuse paths that cannot be read or written, before any work."""
    inputs = [input] if input else []
    for path in inputs:
        cli.check_input(path)
    for path in outputs:
        cli.check_output(path)
    cli.check_apart(outputs, [*inputs, linker])


def show_texts(
    console: Console,
    documents: Sequence[Document],
    output: str | None,
    output_format: WrittenName | None,
) -> None:
    """Print linked documents for a reader, or write them to `output`."""
    if output:
        write_documents(output, documents, format=output_format)
        return
    for document in documents:
        # a line of a pipe or a file is not broken at a terminal's width
        console.print(highlight(document), soft_wrap=not console.is_terminal)


def name_rejects(output: str) -> Path:
    """The rejects file beside an output file, or here where the output is no file."""
    is_file = output != "-" and (Path(output).is_file() or not Path(output).exists())
    return Path(f"{output if is_file else 'link'}.rejects.jsonl")


def show_progress(progress: Progress, show: int, document: Document, read: int) -> None:
    """Count a linked document, and print it if it is among the first `show`.

    read: bytes of the input read up to it.
    """
    if cli.count_document(progress, read) < show:
        progress.console.print(highlight(document), end="\n\n")


def print_summary(
    console: Console, documents: int, stats: Mapping[str, int], seconds: float
) -> None:
    """Print what was linked, and what was not or had to be left out."""
    refused = stats["decided"] - stats["links"]
    console.print(
        f"{documents} documents, {stats['links']} links, {stats['calls']} generator "
        f"calls, {seconds:.1f} s"
    )
    console.print(
        f"{stats['mentions']} candidate mentions, {stats['decided']} of them with an "
        f"entity to choose (INSGENEL-R: that was retrieved), in {stats['chunks']} "
        f"chunks: {stats['links']} linked, {refused} refused"
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
    text = document.text.translate(cli.CONTROLS)
    for mention in document.mentions:
        shown.append(text[reached : mention.start])
        shown.append(text[mention.start : mention.end], "bold underline")
        score = "" if mention.score is None else f" {mention.score:.2f}"
        entity = (mention.entity or "NIL").translate(cli.CONTROLS)
        shown.append(f" [{entity}{score}]", "cyan")
        reached = mention.end
    shown.append(text[reached:])
    return shown


if __name__ == "__main__":
    typer.run(main)
