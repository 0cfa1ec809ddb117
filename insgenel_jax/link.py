"""Link texts, a file, or many files: python -m insgenel_jax.link "a text"

python -m insgenel_jax.link --linker DIR --input FILE --output FILE
python -m insgenel_jax.link --linker DIR --input FOLDER --output FOLDER --workers 2
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from insgenel_jax import artifact, cli, stopping
from insgenel_jax.ahead.options import CompileOnly, Topology
from insgenel_jax.jobs.command import link_many, read_slice
from insgenel_jax.jobs.inputs import is_several
from insgenel_jax.jobs.job import JobError
from insgenel_jax.jobs.store import is_remote
from insgenel_jax.linker.bundled import NANO, locate
from insgenel_jax.linker.inputs import as_documents
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import (
    FormatName,
    WrittenName,
    write_documents,
)
from insgenel_jax.text.formats.rejects import InputError

if TYPE_CHECKING:
    from insgenel_jax.linker import Linker

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
    list[str] | None,
    typer.Option(
        help="Documents: JSONL, .txt, .parquet, .ttl (NIF) and more, see --format; "
        "also .gz or .bz2; - for stdin. Or, for a job: a folder, a glob, gs://, s3://; "
        "repeatable."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        help="File for linked documents; - for stdout. Texts are shown where it is "
        "left out. A folder (FOLDER/) gets parts, and a job that goes on when it is "
        "run again."
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Link the first documents alone, this many.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Job: processes; with --cluster, actors of Ray."),
]
Cluster = Annotated[
    str | None,
    typer.Option(help='Job: address of a Ray cluster; "auto" for the one around us.'),
]
Slice = Annotated[
    str | None,
    typer.Option(
        help="Job: I/N takes every Nth part from the Ith on, I from 0, and leaves the "
        "others to other processes; auto: as SLURM or the TPU host says."
    ),
]
PartDocuments = Annotated[
    int | None, typer.Option(min=1, help="Job: documents of a part [1000].")
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


@cli.user_errors(JobError)
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
    limit: Limit = None,
    show: Show = 0,
    html: Html = False,
    workers: Workers = None,
    cluster: Cluster = None,
    slice: Slice = None,
    part_documents: PartDocuments = None,
    compile_only: CompileOnly = False,
    topology: Topology = None,
) -> None:
    """Link texts and show their links, or link every document of a file or of many.

    Bad lines of the file go to the rejects file. Exit status: 0; 3 when something was
    rejected; 130 or 143 when told to stop, and no output file is written. A job (an
    output folder) keeps the parts that are complete, and goes on when run again.
    """
    if compile_only:
        return compile_call(locate(linker), topology, set_ or [])
    if html:
        output, output_format = output or "-", "html"
    of_a_file = {"--rejects": rejects, "--show": show}
    of_a_job = {"--workers": workers, "--cluster": cluster, "--slice": slice}
    of_a_job["--part-documents"] = part_documents
    of_inputs = {**of_a_file, **of_a_job, "--format": format, "--limit": limit}
    of_inputs["--given"] = given
    inputs, named = input or [], [option for option, v in of_inputs.items() if v]
    check_options(texts, inputs, output, named)
    settings = cli.parse_settings(set_ or [])
    ours = {"format": format, "output_format": output_format, "given": given}
    ours["limit"] = limit
    only_job = [option for option in of_a_job if option in named]
    if inputs and output and is_job(inputs, output, only_job):
        check_no_effect([o for o in of_a_file if o in named], "a job")
        cli.check_effect(settings, locate(linker), given=given)
        how = {"workers": workers, "cluster": cluster, "verify": verify}
        how["slice"] = read_slice(slice, os.environ)
        ours["documents"] = part_documents
        link_many(locate(linker), inputs, output, settings, ours, how)
        return
    documents = read_texts(texts or [])
    files = None
    if inputs and output:
        files = inputs[0], output, rejects or name_rejects(output)
    link_here(locate(linker), documents, files, output, settings, ours, verify, show)


def link_here(
    path: Path,
    documents: Sequence[Document],
    files: tuple[str, str, Path] | None,
    output: str | None,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    verify: bool,
    show: int,
) -> None:
    """Link documents, or a file, with the linker at a path.

    files: in, out, rejects; None where documents are linked. options: of `link_file`.
    """
    check_paths(path, files, output)
    artifact.read(path)  # before the slow imports
    cli.check_effect(dict(settings), path, given=options["given"])

    from insgenel_jax.linker import Linker

    console = Console(stderr=output == "-")
    with stopping.stop_requests() as stop:
        with console.status("opening the linker"), cli.opening(path, "linker"):
            linker = Linker.from_pretrained(path, verify=verify, **settings)
        if files is None:
            show_texts(console, linker(documents), output, options["output_format"])
            stop.check()
            return
        watch = functools.partial(show_progress, show)
        link_one(console, linker, files, watch, options, stop)


def link_one(
    console: Console,
    linker: Linker,
    files: tuple[str, str, Path],
    watch: Callable[[Progress, Document, int], None],
    options: Mapping[str, Any],
    stop: stopping.StopRequests,
) -> None:
    """Link a file, with a line of progress and a summary. files: in, out, rejects."""
    from insgenel_jax.linker.files import link_file

    input, output, rejects = files
    with cli.rejecting(rejects, console) as rejected:
        with cli.show_progress(console, cli.input_size(input)) as line:
            summary = link_file(
                linker,
                input,
                output,
                rejected,
                watch=functools.partial(watch, line),
                stop=stop,
                **options,
            )
        print_summary(console, summary.documents, summary.stats, summary.seconds)


def is_job(inputs: Sequence[str], output: str, of_a_job: Sequence[str]) -> bool:
    """Whether the output is a folder of parts. Raises typer.BadParameter.

    of_a_job: the options given that only a job has.
    """
    if output.endswith("/") or is_remote(output) or Path(output).is_dir():
        return True
    if not (of_a_job or len(inputs) > 1 or any(map(is_several, inputs))):
        return False
    if output == "-" or Path(output).suffix or Path(output).exists():
        what = ", ".join(of_a_job) or f"--input {' '.join(inputs)}"
        raise typer.BadParameter(
            f"{what}: expected an output folder, found {output}; end it with a slash"
        )
    return True


def compile_call(linker: Path, topology: str | None, settings: list[str]) -> None:
    """Compile a decoder's call for a slice of TPUs, and say what it takes."""
    from insgenel_jax.ahead.command import report_linking

    report_linking(linker, topology, settings)


def check_options(
    texts: Sequence[str] | None,
    inputs: Sequence[str],
    output: str | None,
    named: Sequence[str],
) -> None:
    """Refuse options that do not go together. Raises typer.BadParameter.

    named: the options given that have no effect on texts.
    """
    problem = None
    if texts and inputs:
        problem = f"expected texts or --input, found {len(texts)} texts and {inputs[0]}"
    elif not texts and not inputs:
        problem = 'expected a text, as in: insgenel link "Paris is in France.", or '
        problem += "--input FILE --output FILE"
    elif inputs and not output:
        problem = f"--input {inputs[0]} expects --output: a file, a folder, or - for "
        problem += "standard output"
    if problem:
        raise typer.BadParameter(problem)
    if texts:
        check_no_effect(named, "texts")


def check_no_effect(named: Sequence[str], what: str) -> None:
    """Refuse options that have no effect on texts, or on a job."""
    if named:
        options = ", ".join(sorted(named))
        raise typer.BadParameter(f"{options}: no effect on {what}, leave it out")


def read_texts(texts: Sequence[str]) -> list[Document]:
    """The documents of texts that were given as arguments. Raises InputError."""
    try:
        return as_documents(texts)
    except ValueError as error:  # bytes that are no UTF-8
        raise InputError(str(error)) from error


def check_paths(
    linker: Path, files: tuple[str, str, Path] | None, output: str | None
) -> None:
    """Refuse paths that cannot be read or written, before any work."""
    outputs: list[str | Path] = [output] if output else []
    for path in outputs:
        cli.check_output(path, packed=True)
    inputs: list[str | Path] = [linker]
    if files is not None:
        cli.check_input(files[0])
        cli.check_output(files[2])
        inputs, outputs = [files[0], linker], [*outputs, files[2]]
    cli.check_apart(outputs, inputs)


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


def show_progress(show: int, progress: Progress, document: Document, read: int) -> None:
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
