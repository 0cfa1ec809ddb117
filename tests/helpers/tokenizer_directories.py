"""Small tokenizer directories of every family, and oracles for their ids.

A `Family` encodes a text with the family's own library, with nothing put before it, and
gives the bytes of each token.
"""

import base64
import dataclasses
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXTS = [
    "as in { mention } [ Entity title ].",
    "The singer (Freddie Mercury) was born in Stone Town; he led Queen.",
    "York's mayor's speech... -- it's (...) ?!",
    "New York City's mayor flew from New York to York in 1999 - twice!",
    "Ångström and 東京 met naïve café-goers: “why not?”  aaaa  ababab    ------",
]


HOSTILE = [
    "",
    "a",
    "  two  spaces ",
    *(" " * n for n in (1, 2, 3, 15, 16, 17, 31, 33, 36, 100, 1000)),
    *(f"x{' ' * n}y" for n in range(2, 40)),
    "\t\ttabs\t \n\n lines \r\n \v\f",
    "\x00\x01\x7f\x00",
    "a\u0301 \u0301 e\u0301\u0327\u0302 \u0e01\u0e33",
    "👩‍🚀👨‍👩‍👧‍👦🏳️‍🌈 🇫🇷🇫 ☝🏽",
    "שלום עולם \u202eمرحبا\u202c 12\u200f3",
    "東京都は日本の首都。한국어 ภาษาไทย नमस्ते",
    "</s><s> <unk> <pad> <0x0A> <|begin_of_text|> <|eot_id|> <|endoftext|> ▁ ▁▁",
    "{ a } [ b ] {}[] ｛｝［］ Ġ Ċ",
    "x" * 1500,
    "ab" * 400 + "aba" * 100,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "zqzq zqzqz azqzq\nzqzq",
    "1234567890 3.14159 1,000,000 ١٢٣ Ⅷ ½ 10⁵",
    "it's 'tis I'LL they'Ve don’t ''s 's's",
    "no\u00a0break\u202fspaces\u2007and\u3000wide \u200b zero\ufeff width\u2028line",
    "\ue000\U000f0000\ufffd\U0010ffff\uffff",
    "-" * 70 + "=" * 33 + "..." * 11 + "*/" * 40,
    "ﬁ ǅ ß İi\u0307 ſ K Å",
]


@dataclasses.dataclass(frozen=True)
class Family:
    """`encode` maps texts to ids, `token_bytes` an id to its bytes in UTF-8."""

    kind: str  # a key of MAKERS
    path: Path
    encode: Callable[[list[str]], list[list[int]]]
    token_bytes: Callable[[int], bytes]


def make_sentencepiece(path: Path) -> None:
    """Write a tokenizer.model of LLaMA's kind: BPE, byte fallback, no normalisation.

    As in LLaMA's own, all runs of spaces have the same score, which is the lowest.
    """
    sentencepiece = pytest.importorskip("sentencepiece")
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    runs = [" " * n for n in range(1, 17)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20 + runs * 20 + ["{ } [ ]"] * 500),
        model_writer=model,
        model_type="bpe",
        vocab_size=450,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        character_coverage=0.99,
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    for piece in proto.pieces:
        if set(piece.piece) == {"▁"}:
            piece.score = -1e9
    (path / "tokenizer.model").write_bytes(proto.SerializeToString())


def make_tiktoken(path: Path) -> None:
    """Write a raw file of Llama-3's size: all bytes, all pairs of them, many triples.

    No sequence of merges makes its last token "zqzq": "qz" is merged first, and "zqz"
    is no token.
    """
    runs = itertools.chain.from_iterable(
        itertools.product(range(256), repeat=n) for n in (1, 2, 3)
    )
    tokens = [bytes(run) for run in itertools.islice(runs, 127_999)] + [b"zqzq"]
    lines = [
        b"%s %d\n" % (base64.b64encode(token), rank)
        for rank, token in enumerate(tokens)
    ]
    (path / "tokenizer.model").write_bytes(b"".join(lines))


def make_byte_bpe(path: Path) -> None:
    """Write a vocab.json and merges.txt with OPT's special tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS * 20 + [" { } [ ]"] * 500, trainer)
    model = json.loads(backend.to_str())["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    (path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


MAKERS = {
    "sentencepiece": make_sentencepiece,
    "tiktoken": make_tiktoken,
    "byte_bpe": make_byte_bpe,
}


def sentencepiece_family(path: Path) -> Family:
    """The oracle of a SentencePiece model: sentencepiece without the dummy prefix."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString((path / "tokenizer.model").read_bytes())
    proto.normalizer_spec.add_dummy_prefix = False
    oracle = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())

    def token_bytes(token_id: int) -> bytes:
        piece = oracle.id_to_piece(token_id)
        if oracle.is_byte(token_id):
            return bytes([int(piece[1:-1], 16)])
        return piece.replace("▁", " ").encode()

    return Family("sentencepiece", path, oracle.encode, token_bytes)


def tiktoken_family(path: Path) -> Family:
    """The oracle of a raw tiktoken file: tiktoken with the pattern of transformers."""
    from transformers.convert_slow_tokenizer import TikTokenConverter

    lines = (path / "tokenizer.model").read_bytes().splitlines()
    pairs = [line.split() for line in lines]
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    ids = {rank: rank for rank in ranks.values()}
    return _ranked("tiktoken", path, TikTokenConverter().pattern, ranks, ids)


def byte_bpe_family(path: Path) -> Family:
    """The oracle of a byte-level BPE: tiktoken with the ranks of merges.txt."""
    public = pytest.importorskip("tiktoken_ext.openai_public")
    vocabulary = json.loads((path / "vocab.json").read_text())
    merges = (path / "merges.txt").read_text().split("\n")[1:]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # A printable byte is written as itself, the others in order as U+0100, U+0101 ...
    others = iter(c for c in letters if ord(c) >= 256)
    byte_of = {}
    for byte in range(256):
        byte_of[chr(byte) if chr(byte) in letters else next(others)] = byte
    tokens = [*letters, *(line.replace(" ", "") for line in merges if line)]
    ranks = {bytes(byte_of[c] for c in t): rank for rank, t in enumerate(tokens)}
    ids = {rank: vocabulary[token] for rank, token in enumerate(tokens)}
    return _ranked("byte_bpe", path, public.r50k_pat_str, ranks, ids)


def _ranked(
    kind: str, path: Path, pattern: str, ranks: dict[bytes, int], ids: dict[int, int]
) -> Family:
    tiktoken = pytest.importorskip("tiktoken")
    oracle = tiktoken.Encoding(
        kind, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
    )
    rank_of = {token_id: rank for rank, token_id in ids.items()}

    def encode(texts: list[str]) -> list[list[int]]:
        encoded = oracle.encode_ordinary_batch(texts, num_threads=1)
        return [[ids[rank] for rank in ranks] for ranks in encoded]

    return Family(
        kind, path, encode, lambda i: oracle.decode_single_token_bytes(rank_of[i])
    )


READERS = {
    "sentencepiece": sentencepiece_family,
    "tiktoken": tiktoken_family,
    "byte_bpe": byte_bpe_family,
}
# the folders of real tokenizers in the data folder, and the family of each
REAL = {"llama2": "sentencepiece", "llama3": "tiktoken", "opt": "byte_bpe"}


def family_path(name: str, request, tmp_path_factory) -> Path:
    """The directory of a name in REAL, or a new one of a name in MAKERS."""
    if name in REAL:
        return request.getfixturevalue("data") / "tokenizers" / name
    path = tmp_path_factory.mktemp(name)
    MAKERS[name](path)
    return path
