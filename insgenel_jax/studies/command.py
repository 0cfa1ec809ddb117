"""Options of a command in; the inputs of a study, and its rows written, out.

What the commands of the paper's studies share. Nothing here loads JAX until a linker is
opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import rich
import typer
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.evaluation.files import read_redirects
from insgenel_jax.evaluation.scoring import Resolve, make_resolve
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker import bundled
from insgenel_jax.studies import rows as reporting
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects

if TYPE_CHECKING:  # they load JAX
    from insgenel_jax.icl.answers import Source
    from insgenel_jax.linker import Linker
    from insgenel_jax.studies.trained import Variant
    from insgenel_jax.training.settings import Config

Documents = Annotated[
    list[Path], typer.Option(help="Labelled documents, JSONL; repeatable.")
]
Out = Annotated[Path, typer.Option(help="Directory to write to.")]
Redirects = Annotated[
    Path | None, typer.Option(help="TSV of alias and title, to find golds by.")
]
Settings = Annotated[
    list[str] | None,
    cli.settings_option(cli.linker_settings),
]
OneConfig = Annotated[str, typer.Option(help="Config of a generator, path.py:arg.")]
TrainSettings = Annotated[
    list[str] | None,
    typer.Option("--train-set", help="Setting of training, key=value; repeatable."),
]
OneLinker = Annotated[Path, typer.Option(help="Linker directory.")]
Repeats = Annotated[int, typer.Option(min=1, help="Timed runs, of which the median.")]


def load_config(config: str, overrides: Sequence[str] | None) -> Config:
    """The config of a training run. Raises InputError."""
    from insgenel_jax.training.config import load
    from insgenel_jax.training.settings import ConfigError

    try:
        return load(config, overrides or [])
    except ConfigError as error:
        raise InputError(str(error)) from error


def open_source(endpoint: str | None, model: str) -> Source:
    """What answers prompts: a model at an endpoint, or that of a directory."""
    if endpoint is not None:
        from insgenel_jax.icl import Endpoint, endpoint_source

        return endpoint_source(Endpoint(endpoint, model))
    from insgenel_jax.generator import load_language_model
    from insgenel_jax.icl import generator_source

    with cli.opening(model, "model directory"):
        return generator_source(load_language_model(model), artifact.identity(model))


class Study(NamedTuple):
    """What a study reads, and where it writes to."""

    name: str
    sets: Mapping[str, Sequence[Document]]
    redirects: Mapping[str, str]
    out: Path
    progress: reporting.Progress

    def open(
        self, path: Path, set_: Sequence[str] | None, *, calibrated: bool = True
    ) -> Linker:
        """A linker with some settings."""
        from insgenel_jax.linker import Linker  # only now: it loads JAX

        settings = cli.parse_settings(set_ or [])
        with cli.opening(path, "linker"):
            return Linker.from_pretrained(path, calibrated=calibrated, **settings)

    def resolve(self, kb: KnowledgeBase) -> Resolve:
        """What a gold's title stands for."""
        return make_resolve(dict(self.redirects), kb)

    def train(
        self, variants: Sequence[Variant], linker: Path, set_: Sequence[str] | None
    ) -> list[reporting.Row]:
        """The rows of generators that are trained by some configs.

        Raises InputError also where training ends early; the same command goes on.
        """
        from insgenel_jax.studies.trained import study_trained
        from insgenel_jax.training.metrics import NotFinite
        from insgenel_jax.training.settings import ConfigError
        from insgenel_jax.training.signals import Preempted

        opened = self.open(linker, set_, calibrated=False)
        resolve, workdir = self.resolve(opened.kb), self.out / "train"
        arguments = (variants, opened, self.sets, resolve, workdir)
        try:
            return study_trained(*arguments, self.progress)
        except (ConfigError, NotFinite, Preempted) as error:
            raise InputError(str(error)) from error

    def write(
        self, rows: Sequence[reporting.Row], x: str, lines: Sequence[str], line: str
    ) -> None:
        """Print the rows, and write them as JSON and as a figure, see `rows.draw`."""
        rich.get_console().print(reporting.make_table(self.name, rows))
        self.out.mkdir(parents=True, exist_ok=True)
        reporting.write_json(self.out / f"{self.name}.json", rows)
        reporting.draw(self.out / f"{self.name}.png", rows, x, lines, line)


@contextlib.contextmanager
def begin(
    name: str,
    documents: Sequence[Path],
    linkers: Sequence[Path],
    out: Path,
    redirects: Path | None = None,
) -> Iterator[Study]:
    """Check the paths of a study, and read its documents.

    Raises InputError, also for documents without a gold. Bad lines are rejected.
    """
    reporting.check_plotting()
    outputs = [out / f"{name}.json", out / f"{name}.png", out / "rejects.jsonl"]
    artifacts = [bundled.locate(path) for path in linkers]
    cli.check_paths([*documents, redirects], artifacts, outputs)
    console = rich.get_console()
    with cli.rejecting(outputs[-1], console) as rejects, console.status("") as status:
        table = {} if redirects is None else read_redirects(redirects, rejects)
        sets = {
            Path(path).stem: documents
            for path, documents in read_sets(documents, rejects).items()
        }
        yield Study(name, sets, table, out, lambda told: status.update(Text(told)))


def read_sets(paths: Sequence[Path], rejects: Rejects) -> dict[str, list[Document]]:
    """The labelled documents of each file, by the file's path.

    Raises InputError for a file without a single gold.
    """
    sets = {}
    for path in paths:
        documents = list(read_documents(path, rejects))
        if not any(m.entity is not None for d in documents for m in d.mentions):
            raise InputError(
                f"{path}: expected documents with labelled mentions, found none of "
                f"these in {len(documents)} documents; give another file"
            )
        sets[str(path)] = documents
    return sets
