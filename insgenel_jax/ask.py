"""Link a file by asking a general language model in context (INSGENEL-ICL).

python -m insgenel_jax.ask --linker DIR --input FILE --output FILE \\
    --endpoint https://host/v1 --model NAME
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from insgenel_jax import artifact, cli
from insgenel_jax.icl.settings import IclSettings
from insgenel_jax.linker.bundled import locate
from insgenel_jax.models.fields import meanings
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import FormatName
from insgenel_jax.text.formats.rejects import InputError

LinkerPath = Annotated[
    Path, typer.Option(help="Linker directory: its knowledge base and retriever.")
]
Input = Annotated[
    str, typer.Option(help="Documents: .jsonl or .txt, also .gz or .bz2; - for stdin.")
]
Output = Annotated[
    str, typer.Option(help="File for linked documents, JSONL; - for stdout.")
]
Model = Annotated[
    str,
    typer.Option(
        help="Name of the model at the endpoint; without --endpoint, a model "
        "directory, as `insgenel base` makes it."
    ),
]
Url = Annotated[
    str | None,
    typer.Option("--endpoint", help="OpenAI-compatible URL, e.g. https://host/v1."),
]
Settings = Annotated[
    list[str] | None,
    cli.settings_option(
        lambda: (dataclasses.asdict(IclSettings()), meanings(IclSettings))
    ),
]
CachePath = Annotated[
    Path | None,
    typer.Option(help="File that answers are kept in; else OUTPUT.answers.jsonl."),
]
RejectsPath = Annotated[
    Path | None,
    typer.Option(
        help="File for bad input and for documents without an answer; else "
        "OUTPUT.rejects.jsonl."
    ),
]
Format = Annotated[
    FormatName | None,
    typer.Option(help="Format of the input; else by its ending."),
]
KeyVariable = Annotated[
    str, typer.Option(help="Environment variable that has the API key.")
]
PerMinute = Annotated[
    float | None, typer.Option(help="The most requests a minute; else no limit.")
]
Concurrency = Annotated[int, typer.Option(help="The most requests at a time.")]
Timeout = Annotated[float, typer.Option(help="Seconds for a request.")]
Tries = Annotated[int, typer.Option(help="Requests in all for a prompt that fails.")]


@cli.user_errors()
def main(
    linker: LinkerPath,
    input: Input,
    output: Output,
    model: Model,
    endpoint: Url = None,
    set_: Settings = None,
    cache: CachePath = None,
    rejects: RejectsPath = None,
    format: Format = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    per_minute: PerMinute = None,
    concurrency: Concurrency = 4,
    timeout: Timeout = 60.0,
    tries: Tries = 6,
) -> None:
    """Link every document of a file by asking a general language model in context.

    The model is asked at an OpenAI-compatible endpoint, or opened from a directory.
    Answers are kept, and the same command goes on where an earlier one was ended. Exit
    status: 0, or 3 when something was rejected or got no answer.
    """
    stem = Path("ask" if output == "-" else output)
    cache = cache or Path(f"{stem}.answers.jsonl")
    rejects = rejects or Path(f"{stem}.rejects.jsonl")
    linker = locate(linker)
    cli.check_paths([input], [linker], [output, cache, rejects])
    settings = read_settings(cli.parse_settings(set_ or []))
    patience: dict[str, Any] = {"per_minute": per_minute, "concurrency": concurrency}
    patience |= {"timeout": timeout, "tries": tries, "key_variable": key_variable}
    source = open_source(endpoint, model, patience)

    from insgenel_jax.icl.files import link_file
    from insgenel_jax.icl.linker import IclLinker
    from insgenel_jax.linker.search import open_search

    console = Console(stderr=output == "-")
    with console.status("opening the linker"), cli.opening(linker, "linker"):
        kb, search = open_search(linker)
    try:
        opened = IclLinker(kb, source, search, settings, cache)
    except ValueError as error:
        raise InputError(f"{error}; fix --set or --model") from error
    with cli.rejecting(rejects, console) as rejected:
        try:
            with cli.show_progress(console, cli.input_size(input)) as progress:
                watch = functools.partial(advance, progress)
                link_file(opened, input, output, rejected, format=format, watch=watch)
        finally:
            print_summary(console, opened.stats, opened.failures)


def read_settings(given: dict[str, Any]) -> IclSettings:
    """The settings of --set. Raises InputError."""
    try:
        return IclSettings(**given)
    except (TypeError, ValueError) as error:
        raise InputError(f"--set: {error}; fix --set") from error


def open_source(endpoint: str | None, model: str, options: dict[str, Any]) -> Any:
    """The source of answers: an endpoint's model, or the model of a directory.

    options: fields of `Endpoint`. Raises InputError.
    """
    if endpoint is None:
        from insgenel_jax.generator import load_language_model
        from insgenel_jax.icl.local import generator_source

        if not Path(model).is_dir():
            raise InputError(
                f"--model {model}: expected a model directory, found none; give "
                "--endpoint for a model that is asked over HTTP"
            )
        with cli.opening(model, "model directory"):
            opened = load_language_model(model)
            return generator_source(opened, artifact.identity(model))
    try:
        from insgenel_jax.icl.client import Endpoint, endpoint_source
    except ModuleNotFoundError as error:
        raise InputError(
            f"--endpoint: expected the library {error.name}, found it missing; "
            'pip install "insgenel_jax[icl]"'
        ) from error
    try:
        return endpoint_source(Endpoint(endpoint, model, **options))
    except ValueError as error:
        raise InputError(f"{error}; fix the option") from error


def advance(progress: Progress, document: Document, read: int) -> None:
    """Count a linked document. read: bytes of the input read up to it."""
    cli.count_document(progress, read)


def print_summary(console: Console, stats: Any, failures: Any) -> None:
    """Print what was asked and linked, and what became no link, by kind."""
    console.print(
        f"{stats['documents']} documents, {stats['parts']} prompts, {stats['links']} "
        f"links; {stats['asked']} answers asked for, {stats['from cache']} from the "
        f"cache; {stats['prompt tokens']} + {stats['answer tokens']} tokens, "
        f"{stats['repeated']} requests repeated"
    )
    if failed := ", ".join(f"{kind} ({n})" for kind, n in sorted(failures.items())):
        console.print(f"no link: {failed}")
    if left_out := stats["no room"]:
        console.print(f"{left_out} entities left out of a prompt for want of room")


if __name__ == "__main__":
    typer.run(main)
