"""The name of a set in; the figures that others have published for it out.

They stand in assets/published.tsv: InKB micro F1 in percent, whose rules it was scored
by, and where it is from; with `k`, recall and F1 with the k entities retrieved first.
"""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parents[1] / "assets" / "published.tsv"

# What the files of a benchmark are called, letters and digits alone -> its name there.
_NAMES = {
    "aida": "AIDA",
    "aidatest": "AIDA",
    "aidatestb": "AIDA",
    "aidaconlltest": "AIDA",
    "msnbc": "MSNBC",
    "derczynski": "Derczynski",
    "kore50": "KORE50",
    "reuters128": "Reuters-128",
    "rss500": "RSS-500",
    "oke15": "OKE15",
    "oke2015": "OKE15",
    "oke2015eval": "OKE15",
    "oke16": "OKE16",
    "oke2016": "OKE16",
    "oke2016eval": "OKE16",
}


class Published(NamedTuple):
    """A published figure. f1, recall: in percent. k: None for a system's main row."""

    system: str
    scorer: str
    source: str
    dataset: str
    k: int | None
    recall: float | None
    f1: float


def find(dataset: str) -> list[Published]:
    """The published figures for a set, by the name of its file; none for unknown ones.

    Only the sets that were published on are meant: their training parts are not.
    """
    name = re.sub(r"[\W_]", "", dataset.lower()).removesuffix("benchmark")
    known = _NAMES.get(name)
    return [row for row in _read() if row.dataset == known]


@functools.cache
def _read() -> tuple[Published, ...]:
    with FILE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            Published(
                row["system"],
                row["scorer"],
                row["source"],
                row["set"],
                int(row["k"]) if row["k"] else None,
                float(row["recall"]) if row["recall"] else None,
                float(row["f1"]),
            )
            for row in csv.DictReader(stream, delimiter="\t")
        )
