"""Labels that are added to small pages, exactly: one test a rule, one case a trap."""

import itertools
from collections import Counter

import pytest

from insgenel_jax.kb.build.labels import count_names, find_meanings, label_paragraph
from insgenel_jax.kb.build.wikiextractor import Page, parse_paragraph
from insgenel_jax.text.document import Document

LEAD = "Ann Lovel (1 May 1815 – 2 June 1852) was a painter. She said that her he she."
LONGER = "labels left out: in a longer name"
AMBIGUOUS = "labels left out: ambiguous"


def make_page(title, *lines):
    """[Title|anchor] is a link, [Title] one whose anchor is its title."""
    paragraphs = []
    for i, line in enumerate(lines):
        for target in line.split("[")[1:]:
            target = target.split("]")[0]
            name, _, anchor = target.partition("|")
            link = f'<a href="{name}">{anchor or name}</a>'
            line = line.replace(f"[{target}]", link, 1)
        text, mentions, _ = parse_paragraph(line)
        paragraphs.append(Document(f"1:{i}", text, title, tuple(mentions)))
    return Page("1", title, tuple(paragraphs), 1)


def label(page, *rules, redirects=None):
    """The added labels as (anchor, title) a paragraph, and the counts."""

    def resolve(title):
        return (redirects or {}).get(title, title)

    meanings, counts = find_meanings(page, rules, resolve), Counter()
    added = []
    for paragraph in page.paragraphs:
        labelled = label_paragraph(paragraph, meanings, resolve, counts)
        spans = [(mention.start, mention.end) for mention in labelled.mentions]
        assert spans == sorted(set(spans))
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        links = {(mention.start, mention.end) for mention in paragraph.mentions}
        assert links <= set(spans)
        added += [
            (paragraph.text[mention.start : mention.end], mention.entity)
            for mention in labelled.mentions
            if (mention.start, mention.end) not in links
        ]
    return added, dict(counts)


def test_repeats_of_links_before_and_after_them():
    page = make_page(
        "A page",
        "They saw Oslo. Later [Oslo] was red; in Oslo, too.",
        "Oslo's mayor saw the [Red fox|red fox] and a red fox in Osloville.",
    )
    assert label(page, "repeats") == (
        [("Oslo", "Oslo")] * 3 + [("red fox", "Red fox")],
        {"labels: links": 2, "labels: repeats": 4},
    )


def test_links_alone_add_nothing():
    page = make_page("Oslo", "[Bergen] is not Oslo. Bergen is west.")
    assert label(page, "links") == ([], {"labels: links": 1})
    assert count_names(["links"]) == ["labels: links"]


def test_counts_have_names_even_where_nothing_was_added():
    names = ["labels: links", "labels: title", AMBIGUOUS, LONGER]
    assert count_names(["title", "links"]) == names


REPEATS = {  # text of a page "A page" -> (added labels, left out as what)
    "two entities": ("[Oslo (film)|Oslo], [Oslo (ship)|Oslo]; Oslo", [], AMBIGUOUS),
    "its name": ("[Oslo] and the [Oslo Opera]; in Oslo", [("Oslo", "Oslo")], None),
    "part of a name": ("[Ann Oslo|Oslo] and [Bo Oslo]; with Oslo", [], AMBIGUOUS),
    "disambiguated": ("[Oslo (film)|Oslo], [Oslo Opera]; Oslo", [], AMBIGUOUS),
    "team": ("[Oslo ski team|Oslo] won; in Oslo", [], AMBIGUOUS),
    "run after": ("[Paris] knew Paris Hilton", [], LONGER),
    "run before": ("[Paris] knew Bo Paris", [], LONGER),
    "sentence before": ("[Paris] knew Benno. Paris is", [("Paris", "Paris")], None),
    "stop word before": ("[Paris] was red. In Paris", [("Paris", "Paris")], None),
    "initial before": ("[Paris] knew J. Paris", [], LONGER),
    "nickname before": ('[Paris] knew "Bo" Paris', [], LONGER),
    "of before": ("[Paris] has a Bishop of Paris", [], LONGER),
    "of after": ("[House]; the House of Lords", [], LONGER),
    "number after": ("[Apollo] was not Apollo 11", [], LONGER),
    "year before": ("[World Cup]; the 1998 World Cup", [], LONGER),
    "possessive": ("[Paris] is here; Paris's Eiffel Tower", [], LONGER),
    "state": ("[Paris] is not Paris, Texas.", [], LONGER),
    "list": ("[Paris] is red; Paris, red and blue", [("Paris", "Paris")], None),
    "hyphen": ("[Paris] has Anglo-Paris and Paris–Nice", [], LONGER),
    "quoted title": ('[Paris] is in "Murder in Paris" and "Paris by"', [], LONGER),
    "title quoted": (
        '"[Paris]" is a song; "Paris", "Paris"',
        [("Paris", "Paris")] * 2,
        "",
    ),
    "other case": ("[Bush (plant)|Bush]; the bush and bushes", [], None),
    "common sense": ("a [Flight (unit)|flight]; a long flight", [], None),
    "common word": ("the [Worse Oslo|worsening]; a worsening", [], None),
    "noun": ("an [infection]; the infection", [("infection", "Infection")], None),
    "in a compound": ("an [infection]; infection-free", [], LONGER),
    "sentence start": (
        "[Data (Star)|Data] met Data. Data is data",
        [("Data", "Data (Star)")],
        LONGER,
    ),
    "stop word": ("[The Who|Who] is a band. Who? Who is", [], None),
    "number": ("in [1987]; 1987 was red", [], None),
    "letter": ("[C] is a language; C is old", [], None),
    "in another link": ("[Paris] and the [Le Paris|big Paris hat]", [], None),
    "longest": (
        "[Paris] and [Paris Opera]; the Paris Opera",
        [("Paris Opera", "Paris Opera")],
        None,
    ),
    "in the own title": ("[Page (man)|page] [A (letter)|A]; A", [], None),
}


@pytest.mark.parametrize("case", REPEATS)
def test_where_a_link_is_repeated(case):
    text, expected, left_out = REPEATS[case]
    added, counts = label(make_page("A page", text), "repeats")
    assert added == expected
    if left_out != "":
        assert (counts.keys() & {AMBIGUOUS, LONGER}) == ({left_out} - {None})


def test_a_part_of_the_own_title_is_ambiguous_with_and_without_its_rule():
    page = make_page("Luton Town", "[Luton] is a town. Luton plays in red.")
    for rules in (["repeats"], ["repeats", "title"]):
        assert label(page, *rules)[0] == []
    page = make_page("Oslo", "[Oslo (film)|Oslo] is a film. It is not Oslo.")
    for rules in (["repeats"], ["repeats", "title"], ["title"]):
        assert label(page, *rules)[0] == []


TITLES = {  # title, lead -> added labels
    "proper name": ("Oslo", "Oslo is red. In Oslo", ["Oslo", "Oslo"]),
    "parenthesis": ("Oslo (ship)", "The Oslo was red", ["Oslo"]),
    "comma": ("Oslo, Texas", "Oslo is red", ["Oslo"]),
    "comma of the name": (
        "Oslo, Bo and I",
        "Oslo, Bo and I is red. Oslo",
        ["Oslo, Bo and I"],
    ),
    "common noun": ("Water", "Water is wet; water, waters", ["Water", "water"]),
    "common noun of a film": (
        "Family (film)",
        "Family is red; a family, my family",
        [],
    ),
    "two words": ("Red panda", "The red panda is red, a panda", ["red panda"]),
    "place of a battle": (
        "Battle of Oslo",
        "The Battle of Oslo in Oslo",
        ["Battle of Oslo"],
    ),
    "country": ("History of France", "France has a history", []),
    "state": ("United States", "States are united, the United", []),
    "airport": ("John Kennedy", "John Kennedy Airport is not he", []),
    "year": ("1987", "In 1987 it was red", []),
    "stop word": ("It (novel)", "It is red", []),
    "link to another": ("Oslo (ship)", "[Oslo] is a town. The Oslo", []),
}


@pytest.mark.parametrize("case", TITLES)
def test_where_a_page_names_itself(case):
    title, lead, expected = TITLES[case]
    added, _ = label(make_page(title, lead), "title")
    assert added == [(anchor, title) for anchor in expected]


PERSONS = {  # title, lead, text -> the part that is labelled
    "surname": ("Ann Lovel", LEAD, "Then Lovel left.", "Lovel"),
    "son": ("Ann Lovel Jr.", LEAD, "Then Lovel left.", "Lovel"),
    "particle": ("Ann van Lovel", LEAD, "Then van Lovel left.", "van Lovel"),
    "numbered": ("Ann II", LEAD, "Then Ann left.", "Ann"),
    "honorific": ("Ann Lovel", LEAD, "Lady Lovel left. He met Lovel.", "Lovel"),
    "works of the person": (
        "Ann Lovel",
        LEAD,
        "Lovel [Art of Ann Lovel|did].",
        "Lovel",
    ),
    "no person": ("Ann Lovel", "Ann Lovel is a film.", "Then Lovel left.", None),
    "no dates": ("Ann Lovel", LEAD.replace("(", ""), "Then Lovel left.", None),
    "relative linked": ("Ann Lovel", LEAD, "[Bo Lovel|Bo] and Lovel.", None),
    "relative": ("Ann Lovel", LEAD, "Bo Lovel was there. Then Lovel left.", None),
    "death": ("Death of Ann Lovel", LEAD, "Then Lovel left.", None),
    "first name": ("Ann Lovel", LEAD, "Then Ann left.", None),
    # once the time was at least the square of its length: here hours
    "endless": ("Ann Lovel", "Ann Lovel (" + "1234 she " * 50_000, "Lovel left.", None),
}


@pytest.mark.parametrize("case", PERSONS)
def test_parts_of_a_persons_name(case):
    title, lead, text, part = PERSONS[case]
    added, _ = label(make_page(title, lead, text), "title")
    parts = {anchor for anchor, entity in added if anchor != title}
    assert {entity for _, entity in added} <= {title}
    assert parts - {"Ann Lovel"} == ({part} if part else set())


def test_labels_and_ambiguity_follow_redirects():
    """A string linked to a title and to its redirect is unambiguous; one whose redirect
    leads to the page itself is a label of the page; a common word must be the title."""
    redirects = {"Felis": "Cat", "Takes": "Take", "Kristiania": "Oslo"}
    page = make_page(
        "Oslo",
        "[Cat|Tom] and [Felis|Tom] met Tom in [Kristiania] and Kristiania.",
        "The [Takes|takes] of a film; he takes it.",
    )
    added, counts = label(page, "repeats", "title", redirects=redirects)
    assert added == [("Tom", "Cat"), ("Kristiania", "Oslo")]
    assert counts == {"labels: links": 4, "labels: repeats": 2}
    added, counts = label(page, "repeats", "title")
    assert added == [("Kristiania", "Kristiania"), ("takes", "Takes")]
    assert counts[AMBIGUOUS] == 1
