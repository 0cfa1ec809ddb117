"""Convert a file of documents: python -m insgenel_jax.convert INPUT OUTPUT

Formats go by the files' endings, or by --format and --output-format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from insgenel_jax import cli
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.names import first_of, kb_names, read_names, read_pairs
from insgenel_jax.text.formats.documents import (
    FormatName,
    WrittenName,
    read_documents,
    write_documents,
)
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.rejects import Rejects

Input = Annotated[
    str, typer.Argument(help="Documents with mentions; also .gz or .bz2; - for stdin.")
]
Output = Annotated[str, typer.Argument(help="File to write; - for stdout.")]
Format = Annotated[
    FormatName | None, typer.Option(help="Format of the input; else by its ending.")
]
OutputFormat = Annotated[
    WrittenName | None,
    typer.Option(help="Format of the output; else by its ending, or JSONL."),
]
Ids = Annotated[
    Path | None, typer.Option(help="TSV of title and id, for titles or ids alone.")
]
Redirects = Annotated[
    Path | None, typer.Option(help="TSV of alias and title, for titles without an id.")
]
KB = Annotated[
    Path | None, typer.Option(help="Knowledge base directory, asked after --ids.")
]
RejectsPath = Annotated[
    Path | None,
    typer.Option(
        help="File for bad input; else OUTPUT.rejects.jsonl, or convert.rejects.jsonl "
        "for stdout."
    ),
]


@cli.user_errors()
def main(
    input: Input,
    output: Output,
    format: Format = None,
    output_format: OutputFormat = None,
    ids: Ids = None,
    redirects: Redirects = None,
    kb: KB = None,
    rejects: RejectsPath = None,
) -> None:
    """Convert a file of documents from one format to another.

    Exit status: 0, or 3 when something was rejected.
    """
    if redirects is not None and ids is None:
        raise typer.BadParameter("--redirects lead to the titles of --ids: give it too")
    if rejects is None:
        rejects = Path(f"{'convert' if output == '-' else output}.rejects.jsonl")
    cli.check_paths([input, ids, redirects], [kb], [rejects], packed=[output])
    console = Console(stderr=output == "-")
    with cli.rejecting(rejects, console) as rejected:
        names = open_names(ids, redirects, kb, rejected)
        documents = read_documents(input, rejected, format=format, names=names)
        count = write_documents(output, documents, format=output_format, names=names)
        console.print(Text(f"{count} documents: {output}"), soft_wrap=True)


def open_names(
    ids: Path | None, redirects: Path | None, kb: Path | None, rejects: Rejects
) -> Names:
    """What the tables, then the knowledge base, know of titles and ids."""
    several = []
    if ids is not None:
        aliases = {} if redirects is None else dict(read_pairs(redirects, rejects))
        several.append(read_names(ids, rejects, aliases))
    if kb is not None:
        with cli.opening(kb, "knowledge base"):
            several.append(kb_names(KnowledgeBase.open(kb)))
    return first_of(*several)


if __name__ == "__main__":
    typer.run(main)
