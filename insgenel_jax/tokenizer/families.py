"""A tokenizer in its family's own files in; the content of a `tokenizer.json` out.

One reader for SentencePiece models, Llama-3's tiktoken file, GPT-2's vocabulary and
merges, and BERT's vocabulary. Each gives the content and the tokens of the roles BOS,
EOS and padding (BERT's: of all its roles). The first three become byte-pair encodings
of one library, the last its WordPiece, with ids as the family's own gives.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

# the content of a tokenizer.json; the token of each role or None
Family = tuple[dict, dict[str, str | None]]

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_RANKS = 128_000
# The raw file ends before them; the embedding has a row for each.
_LLAMA3_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
)
# piece types of a SentencePiece model
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def added_token(token: str, token_id: int) -> dict:
    return {
        "id": token_id,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _bpe(
    vocabulary: Mapping[str, int],
    merges: list[tuple[str, str]],
    special: Mapping[str, int],
    **parts,
) -> dict:
    """The content of a tokenizer.json with a BPE model."""
    model = {"type": "BPE", "vocab": dict(vocabulary), "merges": merges}
    added = sorted(special.items(), key=lambda item: item[1])
    return {
        "version": "1.0",
        "added_tokens": [added_token(*item) for item in added],
        "normalizer": None,
        "pre_tokenizer": None,
        "model": model | parts.pop("model", {}),
        **parts,
    }


def _merges(
    scored: list[tuple[float, str]], name: Callable[[str], str]
) -> list[tuple[str, str]]:
    """The merges that make the pieces of a list of (score, piece), the best first.

    SentencePiece and tiktoken score the pieces, and of equal places the left one is
    merged first; a list of merges ranks the pairs. Both agree where, of equal pieces,
    the pair with the longer left half ranks first: symbols grow from the left, as in a
    run of spaces, all of whose pieces have one score in LLaMA's model. The tests
    compare.
    """
    known = {piece for _, piece in scored}
    merges = [
        (-score, -cut, piece[:cut], piece[cut:])
        for score, piece in scored
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    merges.sort(key=lambda merge: merge[:2])
    return [(name(left), name(right)) for _, _, left, right in merges]


def read_sentencepiece(data: bytes, file: Path) -> Family:
    """A SentencePiece BPE model with byte fallback that changes no text: LLaMA's."""
    pieces, trainer, normalizer = [], {}, {}
    try:
        for number, value in _fields(data):
            if number == 1:
                piece = dict(_fields(value))
                (score,) = struct.unpack("<f", piece.get(2, bytes(4)))
                pieces.append((piece[1].decode(), score, piece.get(3, _NORMAL)))
            elif number == 2:
                trainer = dict(_fields(value))
            elif number == 3:
                normalizer = dict(_fields(value))
    except (IndexError, KeyError, TypeError, ValueError, struct.error):
        pieces = []
    if not pieces:
        raise ValueError(
            f"{file}: expected a SentencePiece model or tiktoken's lines of base64 and "
            f"rank, found {len(data)} bytes that begin {data[:24]!r}; the file may be "
            "cut off, or a pointer to a large file"
        )
    wrong = {
        "model type BPE (2)": trainer.get(3, 1) != 2,
        "byte fallback": not trainer.get(35, 0),
        "spaces before words": bool(trainer.get(24, 0)),
        "identity normalisation": bool(normalizer.get(2)),
        "spaces kept": bool(normalizer.get(4, 1)),
        "no user-defined or unused pieces": not {kind for _, _, kind in pieces}
        <= {_NORMAL, _UNKNOWN, _CONTROL, _BYTE},
    }
    if any(wrong.values()):
        raise ValueError(
            f"{file}: expected LLaMA's kind of SentencePiece model, found one without "
            f"{', '.join(what for what, found in wrong.items() if found)}; give the "
            "model's tokenizer.json instead"
        )
    ids = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    ordinary = [(score, piece) for piece, score, kind in pieces if kind == _NORMAL]
    special = {p: ids[p] for p, _, kind in pieces if kind in (_UNKNOWN, _CONTROL)}
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prefix = [{"type": "Prepend", "prepend": "▁"}] if normalizer.get(3, 1) else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    content = _bpe(
        ids,
        _merges(ordinary, lambda piece: piece),
        special,
        model={"byte_fallback": True, "fuse_unk": True, "unk_token": pieces[0][0]},
        normalizer={"type": "Sequence", "normalizers": [*prefix, space]},
        decoder={
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
    )
    return content, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": None}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: (number, value), values of 4 or 8 bytes raw.

    Raises IndexError or ValueError where the message is cut off or is none.
    """
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: lambda: 8, 2: varint, 5: lambda: 4}.get(key & 7)
        if size is None:
            raise ValueError(f"wire type {key & 7}")
        length = size()
        if at + length > len(data):
            raise IndexError(at)
        yield key >> 3, data[at : at + length]
        at += length


def byte_letters() -> dict[int, str]:
    """The letter that byte-level BPE writes for each byte: printable ones themselves.

    The rest (0-32, 127-160, 173) are numbered from U+0100 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


def read_tiktoken(data: bytes, file: Path) -> Family:
    """Llama-3's raw file: a token in base64 and its rank a line, no special tokens."""
    letters = byte_letters()
    ranked = []  # one character a byte
    for number, line in enumerate(data.splitlines(), 1):
        try:
            token, rank = line.split()
            token, rank = base64.b64decode(token, validate=True), int(rank)
        except ValueError:
            rank = -1
        if rank != len(ranked):
            raise ValueError(
                f"{file}, line {number}: expected a token in base64 and the rank "
                f"{len(ranked)}, found {line[:40]!r}"
            )
        ranked.append(token.decode("latin-1"))
    if len(ranked) != _LLAMA3_RANKS:
        raise ValueError(
            f"{file}: expected Llama-3's {_LLAMA3_RANKS:,} ranks, found "
            f"{len(ranked):,}; the file is cut off, or another model's: give its "
            "tokenizer.json instead"
        )

    def name(piece: str) -> str:
        return piece.translate(letters)

    special = {token: len(ranked) + i for i, token in enumerate(_LLAMA3_SPECIAL)}
    split = {
        "type": "Split",
        "pattern": {"Regex": LLAMA3_PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    content = _bpe(
        {name(piece): rank for rank, piece in enumerate(ranked)},
        _merges([(-rank, piece) for rank, piece in enumerate(ranked)], name),
        special,
        model={"ignore_merges": True},
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [split, _byte_level(False)],
        },
        decoder=_byte_level(True),
    )
    bos, eos = _LLAMA3_SPECIAL[:2]
    return content, {"bos_token": bos, "eos_token": eos, "pad_token": None}


def read_byte_bpe(vocabulary: dict[str, int], merges: str, file: Path) -> Family:
    """GPT-2's byte-level BPE with OPT's special tokens: BOS is </s>.

    `merges` is the text of `file`, merges.txt.
    """
    pairs = []
    for number, line in enumerate(merges.split("\n"), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2 or not vocabulary.keys() >= {*pair, "".join(pair)}:
            raise ValueError(
                f"{file}, line {number}: expected two tokens whose join is a token of "
                f"vocab.json too, found {line!r}"
            )
        pairs.append(pair)
    special = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokens = {t for t in (*special.values(), "<s>", "<unk>") if t in vocabulary}
    content = _bpe(
        vocabulary,
        pairs,
        {token: vocabulary[token] for token in tokens},
        pre_tokenizer=_byte_level(True),
        decoder=_byte_level(True),
    )
    return content, special


def read_wordpiece(text: str, config: Mapping, file: Path) -> Family:
    """BERT's vocab.txt, a piece a line; `config` is tokenizer_config.json, or empty."""
    lines = text.removesuffix("\n").split("\n")
    vocabulary = {piece: token_id for token_id, piece in enumerate(lines)}
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": f"[{name.upper()}]" for name in names}
    missing = [token for token in special.values() if token not in vocabulary]
    if missing:
        raise ValueError(f"{file}: expected BERT's special tokens, found no {missing}")
    cls, first, sep, second = (
        {kind: {"id": name, "type_id": type_id}}
        for kind, name, type_id in (
            ("SpecialToken", "[CLS]", 0),
            ("Sequence", "A", 0),
            ("SpecialToken", "[SEP]", 0),
            ("Sequence", "B", 1),
        )
    )
    end = {"SpecialToken": {"id": "[SEP]", "type_id": 1}}
    content = {
        "version": "1.0",
        "added_tokens": [added_token(t, vocabulary[t]) for t in special.values()],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),  # None: as lowercase
            "lowercase": config.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, first, sep],
            "pair": [cls, first, sep, second, end],
            "special_tokens": {
                token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]}
                for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }
    return content, {"bos_token": None, "eos_token": None} | special


def _byte_level(use_regex: bool) -> dict:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": use_regex,
    }
