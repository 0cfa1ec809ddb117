"""The parser: answers in every state of decay against texts, and its placing of lines
against a search through all occurrences."""

import collections
import random
import time

import pytest

from insgenel_jax.icl.parse import FAILURES, LONGEST_LINE, Link, occurrences, parse

TEXT = "Paris met Paris in Paris, Texas. Paris Hilton left\nParis for Java."
TITLES = {"Paris": 0, "Paris, Texas": 1, "Paris Hilton": 2, "Java": 3, "A | B": 4}
TITLES |= {"Lutetia": 0, "Rome": 9}  # a redirect, and what is no candidate
PLACES = [0, 10, 19, 33, 51]  # of "Paris"


def run(answer, *, text=TEXT, contexts=True, **options):
    parsed = parse(
        answer, text, {0, 1, 2, 3, 4}, TITLES.get, contexts=contexts, **options
    )
    assert set(parsed.failures) <= set(FAILURES)
    ends = [0, *(link.end for link in parsed.links)]
    for end, link in zip(ends, parsed.links, strict=False):  # in order, apart
        assert end <= link.start < link.end <= len(text)
    return parsed.links, +parsed.failures


def failed(**kinds):
    return collections.Counter({k.replace("_", " "): v for k, v in kinds.items()})


def test_a_line_goes_where_its_context_is():
    for line, start, title in (
        ("Paris | Paris | Paris met Paris", 0, 0),
        ("Paris | Paris | met Paris in Paris", 10, 0),
        ("Paris | Paris, Texas | in Paris, Texas. Paris", 19, 1),
        ("Paris | Paris | Hilton left Paris for Java", 51, 0),
        ("Paris | Lutetia | LEFT   paris FOR java!", 51, 0),  # letter case, spaces
        ("Paris | Paris | nothing of the sort", 0, 0),  # the first
    ):
        assert run(line) == ([Link(start, start + 5, title)], failed()), line
    assert run("Paris Hilton | Paris Hilton | Texas. Paris Hilton left") == (
        [Link(33, 45, 2)],
        failed(),
    )


def test_of_equal_places_the_first_that_is_free():
    line = "Paris | Paris\n"
    for times in range(8):
        links, failures = run(line * times + "END", contexts=False)
        assert [link.start for link in links] == PLACES[:times]
        assert failures == failed(not_placed=max(times - 5, 0))


def test_a_repeated_line_does_not_move_on():
    """Its context names one place; no other becomes a mention."""
    links, failures = run("Paris | Paris | met Paris in\n" * 50)
    assert (links, failures) == ([Link(10, 15, 0)], failed(not_placed=49))


def test_what_overlaps_is_taken():
    answer = "Paris Hilton | Paris Hilton | . Paris Hilton left\n"
    links, failures = run(answer + "Paris | Paris | Texas. Paris Hilton")
    assert (links, failures) == ([Link(33, 45, 2)], failed(not_placed=1))


def brute(mention, context, text):
    """The best occurrence by counting agreeing words outwards, one by one."""
    words, near = text.split(), context.split()

    def agree(i, j, step):
        count = 0
        while (
            0 <= (i := i + step) < len(words)
            and 0 <= (j := j + step) < len(near)
            and words[i] == near[j]
        ):
            count += 1
        return count

    scores = {
        i: max(
            (
                agree(i, j, -1) + agree(i, j, 1)
                for j, w in enumerate(near)
                if w == mention
            ),
            default=0,
        )
        for i, word in enumerate(words)
        if word == mention
    }
    return next((i for i in scores if scores[i] == max(scores.values())), None)


def test_placing_equals_brute_force():
    rng = random.Random(0)
    for _ in range(300):
        words = rng.choices("abc", k=12)
        text = " ".join(words)
        at = rng.randrange(12)
        near = words[max(at - rng.randrange(4), 0) : at + rng.randrange(1, 4)]
        mention, context = rng.choice("abcd"), " ".join(near)
        links, _ = parse(
            f"{mention} | x | {context}", text, {7}, lambda name: 7, contexts=True
        )
        best = brute(mention, context, text)
        assert [link.start for link in links] == ([] if best is None else [2 * best])


@pytest.mark.parametrize(
    ("answer", "failures"),
    [
        ("", failed(format=1)),
        ("\n\n", failed(format=1)),
        ("END", failed()),
        ("  END  \nParis | Paris | Paris met", failed()),  # what follows is no answer
        ("Here are the links:", failed(format=1)),
        ("<html><body>502 Bad Gateway</body></html>", failed(format=1)),
        ('{"choices": [{"message": {"content": "Par', failed(format=1)),
        ("Paris | Paris", failed(format=1)),  # no context
        (" | Paris | x\nParis | | x", failed(format=2)),
        ("|||\n---|---|---\n```", failed(format=1)),  # nothing but marks
        ("Paris | Rome | Paris met", failed(not_a_candidate=1)),
        ("Paris | Nowhere | Paris met", failed(not_a_candidate=1)),
        ("Paris | \ud800\0 | Paris met", failed(not_a_candidate=1)),
        ("Berlin | Paris | in Berlin", failed(not_placed=1)),
        ("aris | Paris | aris met", failed(not_placed=1)),  # inside a word
        (", | Paris | in Paris, Texas", failed(not_placed=1)),  # no word
        ("x" * 10_000_000, failed(format=1)),
        ("Paris | Paris | " + "x" * LONGEST_LINE, failed(format=1)),
        ("Paris | Rome | x\n" * 3000, failed(not_a_candidate=1000, format=2000)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_failures_give_no_mention(answer, failures):
    assert run(answer) == ([], failures)


def test_decoration_is_taken_off():
    for line in (
        "- Java | Java | for Java.",
        "12. Java | Java | for Java.",
        "| Java | Java | for Java. |",
        'Java|"Java"|for Java.',
        "**Java** | `Java` | for **Java**.",
        "Java\u2028 | Java | for Java"[5:] + "\nJava | Java | for Java",
    ):
        links, _ = run(f"```\n{line}\n```")
        assert links == [Link(61, 65, 3)], line
    # a title with the separator in it; a mention over a line break
    assert run("Java | A | B | for Java") == ([Link(61, 65, 4)], failed())
    assert run("left Paris | Paris | x") == ([Link(46, 56, 0)], failed())


def test_cut_off():
    """The last line may lack its end; where the answer has END, nothing is missing."""
    lines = "Paris | Paris | Paris met\nJava | Java | for Java"
    first, both = [Link(0, 5, 0)], [Link(0, 5, 0), Link(61, 65, 3)]
    assert run(lines) == (both, failed())
    assert run(lines, cut_off=True) == (first, failed(cut_off=1))
    assert run(f"{lines}\n", cut_off=True) == (both, failed(cut_off=1))
    assert run(f"{lines}\nEND", cut_off=True) == (both, failed())
    assert run(f"{lines}\nEND\nand so", cut_off=True) == (both, failed())
    assert run("Paris", cut_off=True) == ([], failed(cut_off=1))
    assert run("", cut_off=True) == ([], failed(cut_off=1))


def test_random_answers():
    """Whatever comes, links lie in the text, apart, and are of lines that name them."""
    rng = random.Random(1)
    parts = [
        "Paris",
        "Java",
        "Paris Hilton",
        " | ",
        "|",
        "\n",
        "END",
        "x",
        '"',
        "\r",
        " ",
    ]
    for _ in range(500):
        answer = "".join(rng.choices(parts, k=rng.randrange(60)))
        links, _ = run(answer, contexts=rng.random() < 0.5, cut_off=rng.random() < 0.5)
        assert {TEXT[s:e] for s, e, _ in links} <= {"Paris", "Java", "Paris Hilton"}


def test_a_hostile_answer_takes_no_long_time():
    text = "a " * 600
    began = time.process_time()
    parse(
        ("a | x | " + "a " * 900 + "\n") * 30, text, {7}, lambda name: 7, contexts=True
    )
    assert time.process_time() - began < 10


def test_occurrences_are_whole_words():
    text = "US USA (US) US's\u0301 the\n US"
    assert occurrences("US", text) == [(0, 2), (8, 10), (12, 14), (23, 25)]
    assert occurrences("the US", text) == [(18, 25)]
    assert occurrences("", text) == occurrences(" .", text) == []
