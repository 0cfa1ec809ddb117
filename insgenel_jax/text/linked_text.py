"""A text and its links in; the generator's prompt and target out, and back to links.

    prompt := BOS instruction source EOS
    target := { source_token | OPEN source_token+ CLOSE ENTITY title_token+ END } EOS

The source of the prompt is the text as the tokenizer usually encodes it. For the target
the text is cut into pieces at fixed places, and each piece is tokenised on its own, so
that a link can start or end between a word and punctuation. The places depend on the
text alone, never on links or dictionaries: training and decoding cut alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import regex
from jaxtyping import Bool, Int, Int32

from insgenel_jax.text.document import Mention, normalise
from insgenel_jax.tokenizer import Tokenizer

INSTRUCTION = (
    "Mark every mention of an entity in the text below and name the entity, as in "
    "{ mention } [ Entity title ]."
)

# What the code that the paper's authors published trains with (*release*): the first
# alone, or one of the three at random. It links with the first.
RELEASE_INSTRUCTIONS = (
    (
        "For each source provided, write an output that includes the mentions that "
        "linked to the appropriate entity identifier. Use brace brackets { } to denote "
        "a mention, and box brackets [ ] to denote an linked entity:"
    ),
    (
        "Make sure to include the original text of the source in the output, with the "
        "relevant mention words linked to the entity identifier. Use brace brackets "
        "`{` `}` to denote a mention, and box brackets `[` `]` to denote an linked "
        "entity:"
    ),
    (
        "The output should be formatted as a target text, with the original source "
        "text included, and the relevant mention words linked to the appropriate "
        "entity title. Use brace brackets `{` `}` to denote a mention, and box "
        "brackets `[` `]` to denote an linked entity:"
    ),
)

# The text is cut where a word touches a punctuation mark and where two punctuation
# marks touch. Within a piece spaces separate all words and punctuation marks.
_ATOM = r"(?:[\p{L}\p{M}\p{N}]+|[^ \p{L}\p{M}\p{N}])"
PIECE = regex.compile(rf" *{_ATOM}(?: +{_ATOM})*| +")

Link = tuple[int, int, list[int]]  # token start, token end, title ids


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The source tokens of a target, with the characters [starts, ends) of each.

    Leading spaces are not among the characters of a token; a token of spaces alone has
    start == end. can_begin, can_end: a slice of the text that begins, or ends, with
    this token has the same tokens as here when it is encoded alone (see
    `slice_source`).
    """

    ids: Int32[np.ndarray, " T"]
    starts: Int32[np.ndarray, " T"]
    ends: Int32[np.ndarray, " T"]
    can_begin: Bool[np.ndarray, " T"]
    can_end: Bool[np.ndarray, " T"]

    def __len__(self) -> int:
        return len(self.ids)


def encode_source(tokenizer: Tokenizer, text: str) -> Tokens:
    """The tokens of `text` in a target: each piece of it is tokenised on its own.

    The first piece is encoded as after a space, like a word within a sentence.
    """
    if not text:
        return Tokens(*(np.zeros(0, kind) for kind in ["int32"] * 3 + [bool] * 2))
    text = " " + normalise(text)
    spans = [match.span() for match in PIECE.finditer(text)]
    pieces = tokenizer.encode_raw([text[start:end] for start, end in spans])
    counts = [len(piece[0]) for piece in pieces]
    ids = np.concatenate([piece[0] for piece in pieces])
    shifts = np.repeat([start for start, _ in spans], counts)
    starts = np.concatenate([piece[1] for piece in pieces]) + shifts
    ends = np.concatenate([piece[2] for piece in pieces]) + shifts
    runs = [match.span() for match in regex.finditer(" +", text)]
    can_begin, can_end = _find_cuts(
        text, runs if tokenizer.splits_before_spaces else [], starts, ends
    )
    # A slice can end with the last token of a piece, whatever the tokenizer does.
    can_end[[last - 1 for last in np.cumsum(counts) if last]] = True
    # For every position of the text: the first character at or after it that is not a
    # space. It moves the start of a token past its leading spaces.
    behind = np.arange(len(text) + 1)
    for first, last in runs:
        behind[first:last] = last
    starts = np.minimum(behind[starts], ends)
    # back to the characters of the text without the space put before it
    back = np.maximum(np.stack([starts, ends]) - 1, 0).astype(np.int32)
    return Tokens(ids.astype(np.int32), back[0], back[1], can_begin, can_end)


def _find_cuts(
    text: str,
    runs: Sequence[tuple[int, int]],
    starts: Int[np.ndarray, " T"],
    ends: Int[np.ndarray, " T"],
) -> tuple[Bool[np.ndarray, " T"], Bool[np.ndarray, " T"]]:
    """can_begin and can_end of each token, see `Tokens`.

    runs: the runs of spaces [first, last) before which the tokenizer splits; none for a
    tokenizer that is not known to. The text before such a run has the same tokens when
    it is encoded alone. The text after the run has the same tokens too, if the run is a
    single space, because `encode_source` puts a single space before a text.
    """
    run, single = np.zeros((2, len(text) + 1), bool)
    for first, last in runs:
        if first and not text[first - 1].isspace():
            run[first], single[first] = True, last == first + 1
    # Does the token share no character with the one before?
    apart = np.ones(len(starts), bool)
    apart[1:] = ends[:-1] <= starts[1:]
    can_end = np.ones(len(starts), bool)
    can_end[:-1] = (run[starts] & apart)[1:]
    return single[starts] & apart, can_end


def slice_source(tokens: Tokens, start: int, end: int) -> Tokens | None:
    """The tokens of characters [start, end) of a text, given the tokens of all of it.

    The result equals `encode_source` of these characters alone. It is None where that
    is not certain: where the slice starts or ends inside a word, or starts after
    several spaces, or the tokenizer is not known to split before spaces.
    """
    first = int(np.searchsorted(tokens.starts, start, side="left")) if start else 0
    last = int(np.searchsorted(tokens.ends, end, side="right"))
    if first >= last or tokens.ends[last - 1] != end or not tokens.can_end[last - 1]:
        return None
    if start and not (tokens.starts[first] == start and tokens.can_begin[first]):
        return None
    return Tokens(
        tokens.ids[first:last],
        tokens.starts[first:last] - np.int32(start),
        tokens.ends[first:last] - np.int32(start),
        tokens.can_begin[first:last],
        tokens.can_end[first:last],
    )


def encode_prompt(tokenizer: Tokenizer, instruction: str, text: str) -> list[int]:
    """The ids of BOS instruction source EOS.

    The text is normalised. The instruction is not: it may show braces and brackets,
    because it is never part of a target.
    """
    parts = [" " + part for part in (instruction, normalise(text)) if part]
    ids = [encoded[0] for encoded in tokenizer.encode_raw(parts)]
    return [
        tokenizer.bos,
        *np.concatenate([*ids, [tokenizer.eos]]).astype(int).tolist(),
    ]


def encode_titles(tokenizer: Tokenizer, titles: Sequence[str]) -> list[list[int]]:
    """The ids of each title, encoded as after a space.

    A title that the tokenizer cannot encode completely gets an empty list, because the
    rest of it might be the title of another entity.
    """
    texts = [" " + normalise(title) for title in titles]
    encoded = zip(
        tokenizer.encode_raw(texts), tokenizer.has_unknown(texts), strict=True
    )
    return [[] if unknown else ids.tolist() for (ids, _, _), unknown in encoded]


def find_tokens(tokens: Tokens, start: int, end: int) -> tuple[int, int] | None:
    """The tokens [i, j) that cover the characters [start, end) exactly, or None."""
    i = int(np.searchsorted(tokens.starts, start, side="left"))
    j = int(np.searchsorted(tokens.ends, end, side="right"))
    if i >= j or tokens.ends[j - 1] != end or tokens.starts[j - 1] == end:
        return None
    word = i  # becomes the first token that is not of spaces alone
    while tokens.starts[word] == tokens.ends[word]:
        word += 1
    if tokens.starts[word] != start or (i and tokens.ends[i - 1] > start):
        return None
    if j < len(tokens) and tokens.starts[j] < end:
        return None
    return i, j


def align(
    tokens: Tokens, mentions: Iterable[Mention]
) -> tuple[list[tuple[int, int, Mention]], int]:
    """Find the tokens of mentions: (first token, end token, mention) of each, in order.

    The second value is the number of mentions that were dropped, because they start or
    end inside a token or overlap the mention before.
    """
    aligned, dropped, reached = [], 0, 0
    for mention in sorted(mentions, key=lambda m: (m.start, -m.end)):
        span = find_tokens(tokens, mention.start, mention.end)
        if span is None or span[0] < reached:
            dropped += 1
            continue
        aligned.append((*span, mention))
        reached = span[1]
    return aligned, dropped


def format_target(
    tokenizer: Tokenizer, tokens: Tokens, links: Iterable[Link]
) -> list[int]:
    """The ids of the target: the source tokens with links, then EOS.

    Raises ValueError where the links are not in order, overlap or exceed the source.
    """
    source, target, pointer = tokens.ids.tolist(), [], 0
    for start, end, title in links:
        if not pointer <= start < end <= len(source):
            raise ValueError(
                f"link on tokens [{start}, {end}): expected links in order and not "
                f"overlapping within [{pointer}, {len(source)})"
            )
        target += source[pointer:start]
        target += [tokenizer.open, *source[start:end], tokenizer.close]
        target += [tokenizer.entity, *title, tokenizer.end]
        pointer = end
    return [*target, *source[pointer:], tokenizer.eos]


def parse_target(
    tokenizer: Tokenizer, tokens: Tokens, ids: Sequence[int]
) -> list[Link]:
    """The links of a target, given its ids and source tokens. Inverts `format_target`.

    Raises ValueError that names the first position that breaks the grammar.
    """
    source, links = tokens.ids.tolist(), []
    pointer = at = 0  # the next source token; the next position of the target
    while at < len(ids) and ids[at] != tokenizer.eos:
        if ids[at] == tokenizer.open and pointer < len(source):
            link, at = _parse_link(tokenizer, source, ids, pointer, at)
            links.append(link)
            pointer = link[1]
        else:
            copied = source[pointer] if pointer < len(source) else tokenizer.eos
            at = _expect(ids, at, copied, "copy")
            pointer += 1
    if pointer < len(source):
        raise ValueError(
            f"target position {at}: expected source token {pointer} of {len(source)}, "
            "found the end"
        )
    _expect(ids, at, tokenizer.eos, "EOS")
    return links


def _parse_link(
    tokenizer: Tokenizer, source: list[int], ids: Sequence[int], pointer: int, at: int
) -> tuple[Link, int]:
    """The link that opens at position `at` of the target, and the position after it."""
    start, at = pointer, at + 1
    while pointer < len(source) and at < len(ids) and ids[at] != tokenizer.close:
        at = _expect(ids, at, source[pointer], "copy")
        pointer += 1
    if pointer == start:
        raise ValueError(f"target position {at}: expected a mention, found none")
    at = _expect(ids, at, tokenizer.close, "CLOSE")
    at = _expect(ids, at, tokenizer.entity, "ENTITY")
    title = []
    while at < len(ids) and ids[at] not in (tokenizer.end, tokenizer.eos):
        title.append(ids[at])
        at += 1
    if not title:
        raise ValueError(f"target position {at}: expected a title, found none")
    return (start, pointer, title), _expect(ids, at, tokenizer.end, "END")


def _expect(ids: Sequence[int], at: int, expected: int, what: str) -> int:
    """The position after `at`, where the id `expected` has to stand."""
    actual = ids[at] if at < len(ids) else None
    if actual != expected:
        raise ValueError(
            f"target position {at}: expected {what} ({expected}), found {actual}"
        )
    return at + 1
