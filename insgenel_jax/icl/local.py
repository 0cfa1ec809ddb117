"""Prompts in; the answers of one of our own generators out, by free decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from insgenel_jax.decoding import free
from insgenel_jax.generator import Generator
from insgenel_jax.icl.answers import Answer, Source
from insgenel_jax.icl.prompt import END
from insgenel_jax.linker.batches import decoder_model

_LAST = f"\n{END}\n"  # the last line of an answer, and the beginning of another


def generator_source(generator: Generator, name: str, *, batch: int = 4) -> Source:
    """The source of answers that a generator writes, greedily, `batch` at a time.

    name: of the generator, in the keys of cached answers; it has to change with the
    weights. The generator should be trained to follow instructions; the one of a linker
    only copies. Raises ValueError for a generator that is sharded over a mesh.
    """
    if generator.mesh is not None:
        raise ValueError("generator: expected one on a single device, found a mesh")
    tokenizer = generator.tokenizer

    def encode(text: str) -> list[int]:
        ((ids, _, _),) = tokenizer.encode_raw([text])
        return ids.tolist()

    def is_over(tokens: list[int]) -> bool:
        # only the last few tokens can have brought the end
        return _LAST in tokenizer.decode(tokens[-len(_LAST) :])

    def ask(prompts: Sequence[str], max_tokens: int) -> Iterator[tuple[int, Answer]]:
        model = decoder_model(generator.config)
        encoded = [[tokenizer.bos, *encode(prompt)] for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        most = generator.max_positions - max_tokens
        while order and len(encoded[order[-1]]) > most:
            i = order.pop()
            found = f"a prompt of {len(encoded[i])} tokens, expected at most {most}"
            yield i, Answer("", error=found)
        for first in range(0, len(order), batch):
            group = order[first : first + batch]
            written = free.write(
                model,
                generator.params,
                [encoded[i] for i in group],
                batch=batch,
                new_tokens=max_tokens,
                eos=tokenizer.eos,
                stop=is_over,
            )
            for i, (tokens, cut_off) in zip(group, written, strict=True):
                text = tokenizer.decode(tokens)
                yield i, Answer(text, cut_off, len(encoded[i]), len(tokens))

    return Source(
        ask=ask,
        name=name,
        count_tokens=lambda text: len(encode(text)),
        # one for BOS
        positions=generator.max_positions - 1,
    )
