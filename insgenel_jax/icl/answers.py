"""Prompts in; the answers of a model out, each asked for once and kept on disk.

An answer is written to the cache as soon as it is there, so that a job that was killed
goes on without asking for it again.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

from insgenel_jax.icl.prompt import CountTokens, estimate_tokens


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered to a prompt.

    cut_off: it reached the limit of new tokens. prompt_tokens, answer_tokens: as the
    model counts them; 0 where it does not say. error: why there is no answer, if there
    is none; the text is then empty.
    """

    text: str
    cut_off: bool = False
    prompt_tokens: int = 0
    answer_tokens: int = 0
    error: str | None = None


# (prompts, most new tokens of an answer) -> (number of the prompt, its answer), as the
# answers come in
Ask = Callable[[Sequence[str], int], Iterator[tuple[int, Answer]]]


@dataclasses.dataclass(frozen=True)
class Source:
    """Where answers come from.

    name: of the model, with all that its answers depend on besides the prompt and the
    limit of new tokens. count_tokens: of a text. positions: the most tokens that a
    prompt and its answer may have together, where that is known. stats: counts of what
    was asked.
    """

    ask: Ask
    name: str
    count_tokens: CountTokens = estimate_tokens
    positions: int | None = None
    stats: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )


@final
class Cache:
    """Answers by their key: in memory, and in a JSONL file where a path is given.

    A line that cannot be read, as a killed process may leave one, is ignored.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._answers: dict[str, Answer] = {}
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        complete = True
        if self._path.exists():
            with self._path.open("rb") as lines:
                for line in lines:
                    complete = line.endswith(b"\n")
                    self._answers.update(_read_record(line))
        if not complete:
            self._append("\n")

    def get(self, key: str) -> Answer | None:
        """The answer with a key, if there is one."""
        return self._answers.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer; one with an error is not kept."""
        if answer.error is None:
            self._answers[key] = answer
            record = {"key": key} | dataclasses.asdict(answer)
            # in ASCII, JSON can hold a lone surrogate of the answer
            self._append(json.dumps(record) + "\n")

    def _append(self, line: str) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="ascii") as stream:
                stream.write(line)


def answer_prompts(
    source: Source, cache: Cache, prompts: Sequence[str], max_new_tokens: int
) -> list[Answer]:
    """The answer to each prompt, from the cache or the model.

    Prompts that are equal are asked once. `source.stats` counts the answers that were
    "asked" for and those "from cache".
    """
    keys = [answer_key(source.name, max_new_tokens, prompt) for prompt in prompts]
    answers = {key: cache.get(key) for key in keys}
    new = {
        key: prompt
        for key, prompt in zip(keys, prompts, strict=True)
        if answers[key] is None
    }
    new_keys = list(new)
    for number, answer in source.ask(list(new.values()), max_new_tokens):
        key = new_keys[number]
        answers[key] = answer
        cache.add(key, answer)
        source.stats["prompt tokens"] += answer.prompt_tokens
        source.stats["answer tokens"] += answer.answer_tokens
    source.stats["asked"] += len(new)
    source.stats["from cache"] += len(answers) - len(new)
    return [answers[key] for key in keys]


def answer_key(name: str, max_new_tokens: int, prompt: str) -> str:
    """The key of an answer: a hash of all that it depends on."""
    text = json.dumps([name, max_new_tokens, prompt])
    return hashlib.sha256(text.encode()).hexdigest()


def _read_record(line: bytes) -> dict[str, Answer]:
    """The answer of a line of the cache by its key; nothing of a line that is none."""
    try:
        record: Any = json.loads(line)
        answer = Answer(
            text=str(record["text"]),
            cut_off=record["cut_off"] is True,
            prompt_tokens=int(record["prompt_tokens"]),
            answer_tokens=int(record["answer_tokens"]),
        )
        return {str(record["key"]): answer}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
