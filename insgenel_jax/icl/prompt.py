"""A part of a text and its entities in; the prompt that asks for its links out.

    task | one worked example | bad lines | the entities | the text

The paper publishes what its prompt consists of, not its words. These words are ours.
The example is the same in every prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from insgenel_jax.icl.settings import IclSettings
from insgenel_jax.text import chunking

END = "END"  # the line after the last one of an answer
SEPARATOR = " | "
LONGEST_DESCRIPTION = 100  # characters

CountTokens = Callable[[str], int]
Span = tuple[int, int]

# A text is cut between these. They are short, so that a text without spaces can be
# cut too.
_PIECE = re.compile(r"\S{1,16}\s{0,16}|\s{1,16}")

TASK = """\
Find the mentions of entities in a text. A mention is a name of an entity as the text \
has it. You are given a list of entities and a text. Write one line for each mention, \
in the order of the text:

{line}

The mention is copied letter by letter from the text. The entity is one of the list, \
copied letter by letter: the one that the mention names in this text. {context}Link an \
entity each time that it is named. Leave out whatever names no entity of the list. \
Most entities of the list are not in the text. After the last line write {end}. If \
there is no mention, write {end} alone.
"""
CONTEXT = """\
The context is the mention with up to three words before it and after it, copied from \
the text. """

EXAMPLE_TEXT = (
    "Tesla was born in Smiljan. In 1884 he took a ship to New York, where Edison gave "
    "him work. Tesla left him after six months."
)
EXAMPLE_ENTITIES = (
    ("Nikola Tesla", "engineer and inventor"),
    ("Tesla, Inc.", "maker of electric cars"),
    ("New York City", "largest city of the United States"),
    ("New York (state)", "state of the United States"),
    ("Thomas Edison", "inventor and businessman"),
    ("Edison, New Jersey", "township in New Jersey"),
    ("Smiljan", "village in Croatia"),
)
EXAMPLE_LINES = (
    ("Tesla", "Nikola Tesla", "Tesla was born in"),
    ("Smiljan", "Smiljan", "was born in Smiljan. In 1884 he"),
    ("New York", "New York City", "a ship to New York, where Edison gave"),
    ("Edison", "Thomas Edison", "New York, where Edison gave him work"),
    ("Tesla", "Nikola Tesla", "gave him work. Tesla left him after"),
)
BAD_LINES = (
    (
        ("he", "Nikola Tesla", "In 1884 he took a ship"),
        '"he" is a pronoun, not a name',
    ),
    (
        ("ship", "Steamship", "he took a ship to New York"),
        '"Steamship" is not in the list',
    ),
    (
        ("Nikola Tesla", "Nikola Tesla", "Nikola Tesla was born in"),
        'the text has "Tesla", not "Nikola Tesla"',
    ),
    (
        ("Tesla", "Tesla, Inc.", "Tesla was born in"),
        "it is the right name, but the wrong entity: this Tesla is a man",
    ),
)


def estimate_tokens(text: str) -> int:
    """Tokens of a text for a model whose tokenizer is unknown: its bytes by three."""
    return math.ceil(len(text.encode(errors="surrogatepass")) / 3)


def introduce(settings: IclSettings) -> str:
    """The part of a prompt that is the same for every text."""
    line = format_line(("mention", "entity", "context"), settings)
    context = CONTEXT if settings.contexts else ""
    blocks = [
        TASK.format(line=line, context=context, end=END),
        "Example\n",
        show(EXAMPLE_ENTITIES, EXAMPLE_TEXT, settings),
        "\n".join(format_line(fields, settings) for fields in EXAMPLE_LINES),
        f"{END}\n",
    ]
    if settings.bad_cases:
        blocks.append("Lines that would be wrong in this example:")
        blocks += [
            f"{format_line(fields, settings)}    (wrong: {why})"
            for fields, why in BAD_LINES
        ]
        blocks.append("")
    blocks.append("Now the entities and the text that you are asked about\n\n")
    return "\n".join(blocks)


def show(entities: Sequence[tuple[str, str]], text: str, settings: IclSettings) -> str:
    """The entities (title, description) and the text as a prompt has them."""
    listed = "".join(format_entity(*entity, settings) for entity in entities)
    return f"Entities:\n{listed}\nText:\n{text}\n\nLines:"


def format_line(fields: tuple[str, str, str], settings: IclSettings) -> str:
    """A line of an answer."""
    return SEPARATOR.join(fields if settings.contexts else fields[:2])


def format_entity(title: str, description: str, settings: IclSettings) -> str:
    """The line of an entity in the list."""
    description = " ".join(description.split())
    if not settings.descriptions or not description:
        return f"- {title}\n"
    if len(description) > LONGEST_DESCRIPTION:
        description = description[:LONGEST_DESCRIPTION].rsplit(" ", 1)[0] + " ..."
    return f"- {title}    ({description})\n"


def cut(text: str, settings: IclSettings, room: int, count: CountTokens) -> list[Span]:
    """Spans of whole sentences of at most `part_tokens` tokens, within the room.

    A sentence that is longer is cut at spaces, a word that is longer inside.
    """
    pieces = [match.span() for match in _PIECE.finditer(text)]
    costs = [count(text[start:end]) for start, end in pieces]
    budget = min(settings.part_tokens, room)
    return chunking.chunks(text, [start for start, _ in pieces], costs, budget)


def make_prompt(
    text: str,
    entities: Sequence[tuple[str, str]],
    settings: IclSettings,
    prompt_tokens: int,
    count: CountTokens,
) -> tuple[str, int]:
    """The prompt for a part of a text, and how many of the entities it has.

    entities: title and description, the best first; as many as fit are listed.
    """
    introduction = introduce(settings)
    left = prompt_tokens - count(introduction) - count(show((), text, settings))
    listed = 0
    for entity in entities:
        left -= count(format_entity(*entity, settings))
        if left < 0:
            break
        listed += 1
    return introduction + show(entities[:listed], text, settings), listed
