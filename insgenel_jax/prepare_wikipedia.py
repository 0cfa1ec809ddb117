"""The command `prepare wikipedia`: pages with their links in, a knowledge base out.

A dump in XML is parsed to files first, which a stopped run takes up again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, get_args

import rich
import typer

from insgenel_jax import cli, paths
from insgenel_jax.kb.build import processes, report
from insgenel_jax.kb.build.dictionaries import AliasFormat, DictionaryFiles
from insgenel_jax.kb.build.dump import parts
from insgenel_jax.kb.build.dump.parts import Dump, Part
from insgenel_jax.kb.build.dump.pieces import dump_files
from insgenel_jax.kb.build.dump.site import Words
from insgenel_jax.kb.build.labels import PAPER, LabelRule
from insgenel_jax.kb.build.wikidata import WikidataIds, read_wikidata_ids
from insgenel_jax.kb.build.wikiextractor import find_files
from insgenel_jax.kb.build.wikipedia import build_from_wikipedia
from insgenel_jax.kb.knowledge_base import Case
from insgenel_jax.preparing import (
    CORES,
    HELD_BACK,
    FormRules,
    Out,
    Vocabulary,
    Workers,
    form_rules_named,
    print_report,
    train_tokenizers,
    writing,
)
from insgenel_jax.text.formats.rejects import InputError, Rejects

CaseOption = Annotated[
    Case, typer.Option(help="Occurrences that link probabilities are counted over.")
]
LabelRules = Annotated[
    list[str] | None,
    typer.Option(
        help="Labels beside the links, repeatable: repeats of what a page links, its "
        "own title; links for links alone.",
        show_default="repeats and title",
    ),
]
AbstractsOnly = Annotated[
    bool, typer.Option("--abstracts-only", help="Train on first paragraphs only.")
]
Pages = Annotated[
    Path,
    typer.Option(
        help="A dump, .xml, .xml.bz2 (multistream too) or .xml.gz, or WikiExtractor "
        "--links output; a file or folder."
    ),
]
PageProps = Annotated[
    Path | None,
    typer.Option(
        help="The dump's page_props.sql.gz: Wikidata ids, disambiguation pages."
    ),
]
IdTable = Annotated[Path | None, typer.Option(help="TSV of title and Wikidata id.")]
Leads = Annotated[Path | None, typer.Option(help="JSONL of title and lead.")]
Redirects = Annotated[
    Path | None, typer.Option(help="TSV of alias and title; .gz, .bz2 too.")
]
Aliases = Annotated[
    Path | None,
    typer.Option(help="TSV of surface form, title and, where known, count."),
]
AliasColumns = Annotated[
    AliasFormat,
    typer.Option(
        help="What --aliases holds: counts (or nothing) in the third column, "
        "p(title|form) there, or AIDA's quoted forms."
    ),
]
Titles = Annotated[
    Path | None, typer.Option(help="A title a line: entities without a page, too.")
]
DevShare = Annotated[
    float, typer.Option(min=0, max=1, help="Share of pages held back, counted nowhere.")
]
DumpWords = Annotated[
    list[str] | None,
    typer.Option(help="One more of the dump's own words, repeatable."),
]
KeepPages = Annotated[
    bool,
    typer.Option(
        "--keep-pages",
        help="Keep a dump's parsed pages in OUT/pages, for runs with other settings.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster that works instead, on files that its nodes "
        "share; auto, or local for one of this machine."
    ),
]


@cli.user_errors(ImportError)
def wikipedia(
    input: Pages,
    out: Out,
    page_props: PageProps = None,
    wikidata_ids: IdTable = None,
    redirect_word: DumpWords = None,
    disambiguation_template: DumpWords = None,
    namespace: DumpWords = None,
    keep_pages: KeepPages = False,
    leads: Leads = None,
    redirects: Redirects = None,
    aliases: Aliases = None,
    alias_format: AliasColumns = "counts",
    titles: Titles = None,
    label_rules: LabelRules = None,
    abstracts_only: AbstractsOnly = False,
    form_rules: FormRules = None,
    vocabulary: Vocabulary = 8192,
    case: CaseOption = "any",
    dev_share: DevShare = 0.01,
    workers: Workers = CORES,
    cluster: Cluster = None,
) -> None:
    """Pages of Wikipedia with their links."""
    begin = time.perf_counter()
    labels = label_rules_named(label_rules or PAPER)
    rules = form_rules_named(form_rules or [])
    paths.check_input(input, folder=True)
    given = (leads, redirects, aliases, titles, page_props, wikidata_ids)
    files = [path for path in given if path is not None]
    for path in files:
        paths.check_input(path)
    words = [redirect_word, disambiguation_template, namespace]
    with writing(out, [input, *files], (*HELD_BACK, *report.FILES)) as rejects:
        ids = read_wikidata_ids(page_props, wikidata_ids, rejects)
        hands = cluster or workers
        source = parse_dump(input, out / "pages", words, ids, hands, rejects)
        with files_read(source) as tell:
            counts = build_from_wikipedia(
                source,
                out,
                rejects,
                wikidata=ids,
                leads=leads,
                case=case,
                dev_share=dev_share,
                workers=hands,
                dictionaries=DictionaryFiles(redirects, aliases, titles, alias_format),
                label_rules=labels,
                abstracts_only=abstracts_only,
                form_rules=rules,
                tell=tell,
            )
        train_tokenizers(out, vocabulary)
        counts = finish(out, source, keep_pages, counts, rejects, begin)
        print_report(out, counts, rejects, begin)


def label_rules_named(names: Sequence[str]) -> list[LabelRule]:
    """The rules that --label-rules names. Raises InputError for another name."""
    known = get_args(LabelRule)
    for name in names:
        if name not in known:
            raise InputError(
                f"--label-rules {name}: expected one of {', '.join(known)}, found "
                "another name; correct it"
            )
    return [rule for rule in known if rule in names]


def parse_dump(
    source: Path,
    folder: Path,
    words: Sequence[Sequence[str] | None],
    ids: WikidataIds,
    workers: processes.Workers,
    rejects: Rejects,
) -> Path | Dump:
    """The parsed dump of a source in XML, its parts in `folder`; any other source.

    words: for redirects, disambiguation templates and namespaces. While it works it
    shows pages a second, the time that is left, and memory.
    """
    files = dump_files(source)
    if not files:
        return source
    begin, pages = time.perf_counter(), 0
    total = sum(file.stat().st_size for file in files)
    with cli.show_progress(rich.get_console(), total, "parts") as progress:
        (task,) = progress.tasks

        def tell(part: Part) -> None:
            nonlocal pages
            pages += part.counts["pages"] + part.counts["redirect pages"]
            speed = pages / (time.perf_counter() - begin)
            what = f"parts: {pages:,} pages, {speed:,.0f} a second"
            if part.memory:
                what += f", {part.memory / 1e6:,.0f} MB a process"
            count = task.fields["count"] + 1
            progress.update(task.id, advance=part.bytes, count=count, what=what)

        return parts.parse_dump(
            files,
            folder,
            rejects,
            words=Words(*(tuple(given or ()) for given in words)),
            disambiguation=ids.disambiguation,
            workers=workers,
            tell=tell,
        )


def finish(
    out: Path,
    source: Path | Dump,
    keep_pages: bool,
    counts: dict[str, int],
    rejects: Rejects,
    begin: float,
) -> dict[str, int]:
    """Write the report of a build from Wikipedia, and remove what is no longer needed;
    the counts of the parsed pages and of the build."""
    parsed = dict(source.counts) if isinstance(source, Dump) else {}
    if not report.finish(out, parsed, rejects, time.perf_counter() - begin):
        rich.print('report.html needs: pip install "insgenel_jax\\[report]"')
    if not keep_pages:
        parts.remove_parts(out / "pages")
    return parsed | counts


@contextlib.contextmanager
def files_read(source: Path | Dump) -> Iterator[Callable[[Path], None]]:
    """A line of progress; the function takes each file of `source`, twice in all."""
    files = source.files if isinstance(source, Dump) else find_files(source)
    total = 2 * sum(file.stat().st_size for file in files)
    with cli.show_progress(rich.get_console(), total, "files read") as progress:
        (task,) = progress.tasks

        def tell(file: Path) -> None:
            progress.advance(task.id, file.stat().st_size)
            progress.update(task.id, count=task.fields["count"] + 1)

        yield tell
