"""Redirects, aliases and titles, read from TSV."""

import bz2

import pytest

from insgenel_jax.kb.build.dictionaries import (
    LINKS_A_FORM,
    Alias,
    Redirect,
    end_redirects,
    read_aliases,
    read_redirects,
    read_titles,
)
from insgenel_jax.text.formats.rejects import Rejects


def reasons(rejects):
    return [(line, reason.split(":")[0]) for _, line, reason, _ in rejects.entries]


def test_redirects_are_read_and_bad_lines_rejected(tmp_path):
    path = tmp_path / "redirects.tsv.bz2"
    lines = [
        b"big_Apple\tNew York City#Names",
        b"",
        b"one column",
        b"a\tb\tc",
        b"\xff\tB",
        b"A\t",
        b"User:Me\tB",
        b"B" * 201 + b"\tB",
        b"Big Apple\tnew York City",
        b"Big Apple\tLos Angeles",
        b" NYC \tBig Apple ",
        b"Foo#Bar\tBaz",
    ]
    path.write_bytes(bz2.compress(b"\r\n".join(lines)))
    rejects = Rejects()
    assert read_redirects(path, rejects) == {
        "Big Apple": Redirect("New York City", 1, str(path)),
        "NYC": Redirect("Big Apple", 11, str(path)),
    }
    assert reasons(rejects) == [
        (2, "empty line"),
        (3, "wrong columns"),
        (4, "wrong columns"),
        (5, "not UTF-8"),
        (6, "empty name"),
        (7, "not the title of an article"),
        (8, "over-long name"),
        (10, "redirect given before to another title"),
        (12, "redirect from a #section"),
    ]


def test_redirects_are_followed_to_their_ends():
    redirects = {
        "A": Redirect("B", 1, "r"),
        "B": Redirect("C", 2, "r"),
        "P": Redirect("Q", 3, "r"),
        "O": Redirect("P", 4, "r"),
        "X": Redirect("Y", 5, "r"),
        "Y": Redirect("X", 6, "r"),
        "Z": Redirect("Z", 7, "r"),
        "W": Redirect("X", 8, "r"),
    }
    rejects = Rejects()
    ends = end_redirects(redirects, {"C", "P"}, rejects)
    assert ends == {"A": "C", "B": "C", "O": "P"}
    page = "redirect from a title that has a page"
    circle = "redirect in a circle, or over too many others"
    assert [(line, reason) for _, line, reason, _ in rejects.entries] == [
        (3, page),
        *((line, circle) for line in (5, 6, 7, 8)),
    ]
    long = {str(i): Redirect(str(i + 1), i, "r") for i in range(20)}
    ends = end_redirects(long, set(), rejects)
    # the redirect itself, then ten more at most
    assert ends == {str(i): "20" for i in range(9, 20)}


@pytest.mark.parametrize(
    ("format", "lines", "expected", "bad"),
    [
        (
            "counts",
            ["The Boss\tBruce_Springsteen\t12", "boss\tBoss"],
            [("the boss", "Bruce Springsteen", 12), ("boss", "Boss", 1)],
            [
                *("a\tA\t0", "a\tA\t-1", "a\tA\t0.5", "a\tA\tmany", "a\tA\t1_0"),
                *("a\tA\t", "a\tA\t" + "9" * 13, "\tA\t1", "a\t\t1", "a"),
                *("a\tA\t1\t2", "", "a" * 201 + "\tA"),
            ],
        ),
        (
            "probabilities",
            ["a\tA\t1", "a\tB\t0.25", "a\tC\t1e-5", "a\tD\t0", "a\tE\t.5"],
            [
                *(("a", "A", LINKS_A_FORM), ("a", "B", LINKS_A_FORM // 4)),
                *(("a", "C", 1), ("a", "D", 1), ("a", "E", LINKS_A_FORM // 2)),
            ],
            ["a\tA", "a\tA\t1.01", "a\tA\tnan", "a\tA\t-0.1", "a\tA\t1e999"],
        ),
        (
            "aida_means",
            [
                '"\\u0022Weird Al\\u0022"\t"Weird_Al"_Yankovic',
                '"Napa, CA"\tNapa\\u002c_California',
                '"\\ud83d\\ude00"\tSmiley',
            ],
            [
                ('"weird al"', '"Weird Al" Yankovic', 1),
                ("napa, ca", "Napa, California", 1),
                ("\U0001f600", "Smiley", 1),
            ],
            ["a\tA", '"a\tA', '"\tA', '"a"\tA\t3', '"\\u12"\tA', '"\\ud83d"\tA'],
        ),
        (
            "kolitsas",
            ["Bo\t1.0\t7,0.75,Bo_(dog)\t8,0.25,Bo,_Iowa", "bo\t8\t9,2,Bo\t7,6,A,b\t"],
            [
                *(("bo", "Bo (dog)", 75, 1), ("bo", "Bo, Iowa", 25, 1)),
                *(("bo", "Bo", 25, 2), ("bo", "A,b", 75, 2)),
            ],
            [
                *("a\t1", "a\t1\t7,A", "a\t1\t7,much,A", "a\t1\t7,0,A", "a\t1\t"),
                *("\t1\t7,1,A", "a\t1\t7,1,User:A"),
            ],
        ),
        (
            "rel",
            ['Bo\t{"Bo_(dog)": 0.75, "A\\u00e4": 2e-1}', 'bo\t[["Bo", 1]]'],
            [
                *(("bo", "Bo (dog)", 75, 1), ("bo", "Aä", 20, 1)),
                ("bo", "Bo", LINKS_A_FORM, 2),
            ],
            [
                *('a\t{"A": 0.5', 'a\t{"A": 1.5}', 'a\t{"A": "x"}', "a\t3"),
                *("a\t[1]", "a\t[[1, 2]]", 'a\t{"A": NaN}', "a", "a\tb\tc"),
            ],
        ),
    ],
)
def test_aliases(tmp_path, format, lines, expected, bad):
    path = tmp_path / "aliases.tsv"
    path.write_text("\n".join([*lines, *bad]), encoding="utf-8")
    rejects = Rejects()
    found = list(read_aliases(path, rejects, format))
    assert found == [Alias(*(*row, i)[:4]) for i, row in enumerate(expected, 1)]
    lines_rejected = [line for _, line, _, _ in rejects.entries]
    assert lines_rejected == list(range(len(lines) + 1, len(lines) + len(bad) + 1))


def test_a_long_number_takes_no_longer_than_another_column(tmp_path):
    """Once the time was the square of its length: here some minutes."""
    path, rejects = tmp_path / "a.tsv", Rejects()
    path.write_text("a\tA\t" + "1" * 400_000 + "x\n")
    assert list(read_aliases(path, rejects, "probabilities")) == []
    assert reasons(rejects) == [(1, "bad probability")]


def test_titles(tmp_path):
    path = tmp_path / "titles.txt"
    path.write_text("\ufeffnew_York\nNew York\n\nA\tB\nTalk:A\nBo (dog)\n", "utf-8")
    rejects = Rejects()
    assert read_titles(path, rejects) == ["New York", "Bo (dog)"]
    assert reasons(rejects) == [
        (3, "empty line"),
        (4, "wrong columns"),
        (5, "not the title of an article"),
    ]
