"""The settings of INSGENEL-ICL: their meaning, their defaults and their checks."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class IclSettings:
    """What is asked of the model.

    k: the most entities that a prompt lists; so many are also retrieved for a window.
    bad_cases: the prompt shows lines that are wrong, and why. contexts: the model
    writes the words around each mention, by which its place is found. descriptions:
    each entity is listed with its description, cut to some 100 characters.

    prompt_tokens: the most tokens of a prompt (*paper*: about 3,000). part_tokens: the
    most tokens of the text in it. A longer text is asked about in parts of whole
    sentences. max_new_tokens: the most tokens of an answer, which the lines for a part
    have to fit in (*paper*: 300).

    Without the model's own tokenizer, a token is reckoned as three bytes of UTF-8,
    which is more tokens than most texts have.
    """

    k: int = 100
    bad_cases: bool = True
    contexts: bool = True
    descriptions: bool = False
    prompt_tokens: int = 3000
    part_tokens: int = 300
    max_new_tokens: int = 300

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if type(value) is not kind:
                expected = "True or False" if kind is bool else "an integer"
                raise ValueError(f"{field.name}: expected {expected}, found {value!r}")
            if kind is int and value < 1:
                raise ValueError(f"{field.name}: expected at least 1, found {value}")
