"""Training documents in; the stream of their examples out, by way of grain.

Every stage is deterministic given the seed and sharded by stream before anything is
packed. Its place can be saved and set back: the iterator goes into the checkpoint.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import absl.flags
import grain

from insgenel_jax import artifact
from insgenel_jax.kb.build import training_documents
from insgenel_jax.text.document import Document, loads
from insgenel_jax.training.data.streams import WHOLE, Stream
from insgenel_jax.training.settings import ConfigError

# grain reads absl's flags, which nobody parses under typer
if not absl.flags.FLAGS.is_parsed():
    absl.flags.FLAGS.mark_as_parsed()

OUTSIDE = "documents outside data.share"
FAN_OUT = 10_000  # a document has no more chunks or windows than this

# expand(document, counts) -> the examples of a document; counts what happened to it
Expand = Callable[[Document, collections.Counter], list[dict]]


@dataclasses.dataclass(frozen=True)
class ExpandRecords(grain.experimental.FlatMapTransform):
    """A record of the training documents -> its examples, by `expand`.

    share: of the pages, how much is expanded; others give no example.

    Raises ConfigError where the first `documents` records gave no example: the records
    are repeated without end, so reading on would never end either.
    """

    expand: Expand
    documents: int
    counts: collections.Counter
    share: float = 1.0
    max_fan_out: int = FAN_OUT

    @property
    def read(self) -> int:
        """How many records were read so far."""
        names = ("documents", "unreadable documents", OUTSIDE)
        return sum(self.counts[name] for name in names)

    def flat_map(self, element: bytes) -> Sequence[dict]:
        examples = self._expand(element)
        self.counts["examples"] += len(examples)
        if not self.counts["examples"] and self.read >= self.documents:
            raise no_examples("data.documents", self.counts)
        return examples

    def _expand(self, element: bytes) -> Sequence[dict]:
        try:
            document = loads(element)
        except ValueError:
            self.counts["unreadable documents"] += 1
            return []
        if not in_share(document.id, self.share):
            self.counts[OUTSIDE] += 1
            return []
        self.counts["documents"] += 1
        return self.expand(document, self.counts)


def in_share(document_id: str, share: float) -> bool:
    """Whether a document's page is in a share of all pages, by a hash of its id.

    The paragraphs of a Wikipedia page have ids as "2834:0", the page's number first;
    any other document is a page of its own. The hash is another one than that which
    holds pages back for development.
    """
    page, _, paragraph = document_id.partition(":")
    if not (page.isdigit() and paragraph.isdigit()):
        page = document_id
    digest = hashlib.blake2b(page.encode(), digest_size=8, salt=b"data.share").digest()
    return int.from_bytes(digest, "big") < share * 2**64


def no_examples(where: str, counts: collections.Counter) -> ConfigError:
    """The error of documents that give no example at all, with what was counted."""
    told = "; ".join(f"{name}: {count:,}" for name, count in counts.items() if count)
    return ConfigError(
        f"{where}: not one example in all of them ({told}); look at data.kb and "
        "data.documents, that they belong together, and at the lengths of the config"
    )


def stream_examples(
    path: str,
    expand: Expand,
    seed: int,
    counts: collections.Counter,
    share: float = 1.0,
    stream: Stream = WHOLE,
) -> grain.IterDataset:
    """Read, shuffle, repeat and shard the training documents; expand each.

    share: of their pages, see `in_share`. stream: which part of them is read.

    Raises ConfigError where there are none for this stream and, while it is read,
    where a whole pass over them gave no example.
    """
    source = open_records(path)
    own = slice(stream.number, None, stream.count)
    records = grain.MapDataset.source(source).shuffle(seed=seed)[own]
    if not len(records):
        raise ConfigError(
            f"{path}: {len(source)} training documents, too few for "
            f"{stream.count} streams"
        )
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=16)
    return grain.experimental.FlatMapIterDataset(
        records.repeat().to_iter_dataset(reading),
        ExpandRecords(expand, len(records), counts, share),
    )


def open_records(path: str) -> grain.sources.ArrayRecordDataSource:
    """The records of training documents, in their order."""
    manifest = artifact.check(path, training_documents.KIND, training_documents.VERSION)
    files = [
        str(Path(path) / name)
        for name in sorted(manifest.files)
        if name.startswith("documents-")
    ]
    return grain.sources.ArrayRecordDataSource(files)
