"""What can be asked of a decoder beyond the chunks, in one record for all of them."""

from __future__ import annotations

import dataclasses

from insgenel_jax.decoding.title_trie import TitleTrie

SELECTIONS = ("greedy", "marginal")
OPENINGS = ("candidates", "first_token", "anywhere")
EARLY_STOPPING = ("heuristic", "always", "never")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `decode`. Each decoder names those it takes account of in `HONOURS`.

    selection: how a path through a block is chosen, see `selection.select`. unlinked:
    keep the best link that each block passes over, in `DecodedPath.unlinked`.
    vocabulary: also score every edge of a link over the whole vocabulary, in
    `DecodedPath.vocabulary`. titles_scored: keep the score of every title of every
    mention that a block may link, in `DecodedPath.titles`. beams: how many hypotheses
    beam search keeps. openings: where beam search may open a mention, see
    `whole_target.extend`. early_stopping: when beam search ends, once so many
    hypotheses have finished as there are beams: at once ("always"), where no running
    one would get among them if it ended now ("heuristic"), or where none ever can
    ("never"). These are True, False and "never" of transformers. titles: the prefix
    tree of all titles, on the devices, for mentions that may take any title of the
    knowledge base.

    Raises ValueError for a value that is none of those, and for beams below 1.
    """

    selection: str = "greedy"
    unlinked: bool = False
    vocabulary: bool = False
    titles_scored: bool = False
    beams: int = 2
    openings: str = "candidates"
    early_stopping: str = "heuristic"
    titles: TitleTrie | None = None

    def __post_init__(self):
        for name, choices in (
            ("selection", SELECTIONS),
            ("openings", OPENINGS),
            ("early_stopping", EARLY_STOPPING),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} = {value!r}: expected one of {choices}")
        if self.beams < 1:
            raise ValueError(f"beams = {self.beams}: expected at least 1")
