"""The prompt: what it has, and that it keeps to its number of tokens."""

import pytest

from insgenel_jax.icl import prompt
from insgenel_jax.icl.parse import parse
from insgenel_jax.icl.prompt import cut, estimate_tokens, introduce, make_prompt
from insgenel_jax.icl.settings import IclSettings

ENTITIES = [(f"Title {i}", f"what  {i}\nis " + "long " * 30) for i in range(200)]


@pytest.mark.parametrize("contexts", [True, False])
def test_the_example_parses_to_itself(contexts):
    """Its lines are all right, and the bad ones are all wrong but for their entity."""
    settings = IclSettings(contexts=contexts)
    titles = {title: i for i, (title, _) in enumerate(prompt.EXAMPLE_ENTITIES)}

    def read(lines):
        answer = "\n".join(prompt.format_line(fields, settings) for fields in lines)
        return parse(
            answer,
            prompt.EXAMPLE_TEXT,
            set(titles.values()),
            titles.get,
            contexts=contexts,
        )

    links, failures = read(prompt.EXAMPLE_LINES)
    named = [(prompt.EXAMPLE_TEXT[s:e], e_) for s, e, e_ in links]
    assert named == [(m, titles[title]) for m, title, _ in prompt.EXAMPLE_LINES]
    assert not failures
    # the pronoun and the wrong entity stand in the text, as a model's mistakes would
    links, failures = read(prompt.BAD_LINES[i][0] for i in (1, 2))
    assert not links and failures == {"not a candidate": 1, "not placed": 1}


def test_variants():
    def words(**settings):
        made, _ = make_prompt(
            "A text.", ENTITIES[:2], IclSettings(**settings), 3000, estimate_tokens
        )
        return made

    plain = words(bad_cases=False, contexts=False)
    assert "wrong" not in plain and "context" not in plain and "what 1" not in plain
    assert plain.endswith("Entities:\n- Title 0\n- Title 1\n\nText:\nA text.\n\nLines:")
    assert "mention | entity\n" in plain
    assert "mention | entity | context\n" in words()
    assert "(wrong: " in words()
    described = words(descriptions=True)
    assert "- Title 1    (what 1 is long long" in described
    assert "- Thomas Edison    (inventor and businessman)" in described
    assert max(map(len, described.split("Now the")[1].splitlines())) < 130


@pytest.mark.parametrize("descriptions", [True, False])
@pytest.mark.parametrize("prompt_tokens", [1000, 1200, 3000])
def test_the_prompt_keeps_to_its_tokens(descriptions, prompt_tokens):
    """Entities are left out from the end of the list; the text is there in whole."""
    settings = IclSettings(descriptions=descriptions, prompt_tokens=prompt_tokens)
    fixed = estimate_tokens(introduce(settings))
    text = "Sentence one is here. " * 5
    made, listed = make_prompt(text, ENTITIES, settings, prompt_tokens, estimate_tokens)
    assert estimate_tokens(made) <= prompt_tokens and text in made
    assert 0 < listed < 200 or (listed == 200 and not descriptions)
    assert made.count("- Title") == listed and f"- Title {listed - 1}" in made
    assert fixed < 900


@pytest.mark.parametrize(
    "text",
    ["One two three. " * 200, "x" * 5000, "Straße für Übung! " * 90, " " * 4000, ""],
)
def test_parts_are_short_and_lose_nothing(text):
    settings = IclSettings(part_tokens=50)
    for room in (30, 2000):
        spans = cut(text, settings, room, estimate_tokens)
        parts = [text[start:end] for start, end in spans]
        assert "".join("".join(parts).split()) == "".join(text.split())
        assert all(estimate_tokens(part) <= min(50, room) for part in parts)
        if room > 50 and "." in text:  # whole sentences
            assert all(part.endswith(".") for part in parts)


def test_settings_are_checked():
    for name, value in (("k", 0), ("k", True), ("contexts", 1), ("part_tokens", 2.0)):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            IclSettings(**{name: value})
