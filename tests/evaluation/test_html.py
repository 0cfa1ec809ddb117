"""The report, read back: its figures are those of the scores; nothing in it can act."""

import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from insgenel_jax import evaluation
from insgenel_jax.evaluation import Predictions, System, html, published, scoring
from insgenel_jax.text.document import Document, Mention

TEXT = "Ann met Bob in Rome, and Bob left Ann and Oz."
ANN, BOB = Mention(0, 3, "Ann Lee", "Q3", 0.9), Mention(8, 11, "Bob Hope", None, 0.75)
OZ, NIL = Mention(42, 44, "Oz (land)"), Mention(15, 19, None)
GOLD = [
    Document("1", TEXT, "A meeting", (ANN, BOB, NIL, OZ)),
    Document("2", "Nobody in Oz", None, (Mention(10, 12, "Oz (land)"),)),
    Document("3", "Bob", None, (Mention(0, 3, "Bob Dylan"),)),
]
HOSTILE = [
    "</p><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "]]><style>*{display:none}</style>&lt;b&gt;",
    "javascript:alert(1)' onclick='alert(1)",
    "\u202eevil\x00\x1b[2J",
]


def ours(documents):
    """Ann is right, Bob is another Bob; "and " is below the threshold."""
    found = {
        "1": (
            ANN,
            dataclasses.replace(BOB, entity="Bob Dylan"),
            Mention(20, 24, "Ann Lee", None, 0.1),
            Mention(25, 33, "Bob Hope", None, 0.6),
        ),
        "2": (),
        "3": (Mention(0, 3, "Bob Dylan", None, 0.55),),
    }
    return [dataclasses.replace(d, mentions=found.get(d.id, ())) for d in documents]


def make_evaluation(kb=None, mode="gerbil", name="ours", gold=GOLD, dataset="kore50"):
    system = System(
        name,
        ours,
        candidates=lambda documents: [
            {(m.start, m.end): {0, 1, 2} for m in g.mentions} for g in gold
        ],
        calls=iter((0, 12)).__next__,
        settings={"top_k": 100},
        decoder="tree",
        threshold=0.5,
        ranks=lambda documents, wanted: [[3] * len(w) for w in wanted],
        kb=kb,
    )
    given = [Predictions(dataset, "given", gold)]
    return evaluation.run({dataset: gold}, [system], given, kb=kb, mode=mode)


VOID = {"meta", "input", "br", "img", "link"}  # they have no end


class Page(HTMLParser):
    """The tables of a page by id or class, its text by class of element, its tags."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.tags, self.classes = {}, [], {}
        self.open, self.rows = [], None
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        kind = attributes.get("class", "").split(" ")[0]
        if tag not in VOID:
            self.open.append((tag, kind))
        if tag == "table":
            self.rows = self.tables.setdefault(attributes.get("id") or kind, [])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.classes.setdefault(kind, []).append("")

    def handle_startendtag(self, tag, attributes):  # in SVG
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "sup":  # the number of an error
            return
        if any(tag in ("td", "th") for tag, _ in self.open):
            self.rows[-1][-1] += data
        for kind in {kind for _, kind in self.open}:
            self.classes[kind][-1] += data


def percent(*shares):
    return [f"{100 * share:.1f}" for share in shares]


def test_its_figures_are_those_of_the_scores(bobs):
    evaluated = make_evaluation(bobs)
    page = Page(html.make_page(evaluated))
    for row, r in zip(page.tables["table-scores"][1:], evaluated.results, strict=True):
        expected = percent(*r.scores.micro, r.scores.macro.f1, r.scores.detection.f1)
        expected = ["kore50", r.system, "3", "5", *expected]
        assert row == [*expected, *percent(r.scores.accuracy)]
    first, _ = evaluated.results
    assert first.scores.counts == (2, 2, 3)
    within = page.tables["table-within"][1]
    assert within == ["kore50", "ours", "3", *percent(*first.within.micro)]
    difference = evaluated.comparisons[0].interval
    shown = page.tables["table-differences"][1][3:]
    assert shown == [
        f"{100 * difference[0]:+.1f}",
        f"{100 * difference[1]:+.1f} to {100 * difference[2]:+.1f}",
    ]
    head, row, _ = page.tables["table-losses"]
    lost = dict(zip(head[3:], map(int, row[3:]), strict=True))
    assert lost == first.losses and row[2] == "5"
    assert lost["not in KB"] == 2 and lost["wrong entity"] == 1
    costs = page.tables["table-cost"]
    assert costs[1][:4] == ["kore50", "ours", "tree", "4.0"]
    assert costs[1][4] == f"{first.seconds / 3:.3f}"
    assert costs[2][2:] == ["–", "–", "–"]


def test_the_chart_of_f1_stands_beside_published_rows(bobs):
    evaluated = make_evaluation(bobs)
    text = html.make_page(evaluated)
    page = Page(text)
    names = page.classes["label"]
    values = page.classes["value"]
    first = scoring.estimate(evaluated.results[0].scores.per_document)
    shown = f"{100 * first.f1:.1f} {100 * first.low:.1f}–{100 * first.high:.1f}"
    assert (names[0], values[0]) == ("ours", shown)
    others = dict(zip(names[2:], values[2:], strict=True))
    assert others["INSGENELpublished, ELEVANT"] == "73.8"
    assert others["GENREpublished, GERBIL"] == "60.7"
    assert len(others) == sum(row.k is None for row in published.find("kore50"))
    # pale: scored by the other rules
    assert re.search(r'not-same"><bdi>INSGENEL</bdi>', text)
    assert re.search(r'label"><bdi>GENRE</bdi>', text)


def test_recall_and_curves(bobs):
    evaluated = make_evaluation(bobs)
    text = html.make_page(evaluated)
    page = Page(text)
    head, row, recall, f1 = page.tables["table-recall"]
    assert dict(zip(head[2:], row[2:], strict=True)) == {
        **dict.fromkeys(("1", "2"), "0.0"),
        **dict.fromkeys(("5", "10", "20", "50", "100"), "100.0"),
    }
    assert row[1] == "3"  # Oz is not in the knowledge base
    assert recall[2:] == ["", "", "42.6", "54.0", "62.2", "75.0", "89.2"]
    assert f1[2:] == ["", "", "37.7", "49.3", "60.6", "67.7", "71.9"]
    assert sum(tag == "svg" for tag, _ in page.tags) == 3
    for variable in ("--s0", "--ink", "--faint"):
        assert f"var({variable})" in text
    assert "#0301" not in text and "#010101" not in text
    # given predictions have scores only in part, and so no curve
    assert evaluated.results[1].link_scores is None


def test_each_document_with_its_errors(bobs):
    page = Page(html.make_page(make_evaluation(bobs)))
    texts = page.classes["text"]
    assert texts == [text for gold in GOLD for text in (gold.text, gold.text)]
    errors = page.classes["errors"]
    assert [line.strip() for line in errors[0].strip().splitlines()] == [
        "wrong entity “Bob” is Bob Hope, linked to Bob Dylan 0.75",
        "no gold here “Bob left” linked to Bob Hope 0.60",
        "not in KB “Oz” is Oz (land)",
    ]
    assert page.classes["counts"][0] == "1 right · 2 wrong · 2 missed"
    marks = [a["class"] for tag, a in page.tags if tag == "mark"][5:]  # of the key
    assert marks[:5] == ["right", "wrong", "nil", "extra", "missed"]


def test_golds_whose_title_is_gone_are_marked_as_nil():
    titles = frozenset(["Ann Lee", "Bob Hope", "Bob Dylan"])
    evaluated = evaluation.run(
        {"kore50": GOLD},
        predictions=[Predictions("kore50", "all", GOLD)],
        titles=titles,
    )
    page = Page(html.make_page(evaluated))
    marks = [a["class"] for tag, a in page.tags if tag == "mark"][5:]  # of the key
    assert marks == ["right", "right", "nil", "nil", "nil", "right"]


def test_the_curve_follows_the_rules_of_the_mode(bobs):
    """To ELEVANT "ob" is "Bob", a wrong link on a gold is no false positive."""
    found = (
        Mention(0, 3, "Ann Lee", None, 0.9),
        Mention(9, 11, "Bob Hope", None, 0.75),
        Mention(42, 44, "Bob Dylan", None, 0.6),
    )
    system = System(
        "ours",
        lambda documents: [dataclasses.replace(d, mentions=found) for d in documents],
        threshold=0.7,
    )
    for mode, reached in (
        ("gerbil", [(0.9, 1, 1 / 3), (0.75, 1 / 2, 1 / 3), (0.6, 1 / 3, 1 / 3)]),
        ("elevant", [(0.9, 1, 1 / 3), (0.75, 1, 2 / 3), (0.7, 1, 2 / 3)]),
    ):
        evaluated = evaluation.run({"one": GOLD[:1]}, [system], kb=bobs, mode=mode)
        curve = evaluated.results[0].curve
        assert [(p.threshold, p.precision, p.recall) for p in curve][:3] == reached
        at = [p for p in curve if p.threshold >= 0.7][-1]
        assert at[1:] == evaluated.results[0].scores.micro


def test_elevant_has_its_counts(bobs):
    evaluated = make_evaluation(bobs, mode="elevant")
    row = Page(html.make_page(evaluated)).tables["table-elevant"][1]
    counts = evaluated.results[0].elevant
    numbers = [*counts.all, *counts.entity, *counts.coref, *counts.detection, 3]
    assert row[2:] == [str(n) for n in numbers]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_text(hostile, tmp_path):
    text = f"{hostile} $x$ Bob {hostile}"
    where = text.index("Bob")
    gold = [
        Document(hostile, text, hostile, (Mention(where, where + 3, hostile),)),
        Document("2", hostile, None, (Mention(0, 4, "Ann"), Mention(2, 6, None))),
    ]
    linked = [
        dataclasses.replace(gold[0], mentions=(Mention(0, 5, hostile, None, 0.5),)),
        dataclasses.replace(gold[1], mentions=(Mention(0, 4, hostile, hostile, 0.2),)),
    ]
    given = [Predictions(hostile, hostile, linked)]
    evaluated = evaluation.run({hostile: gold}, predictions=given)
    html.write_report(tmp_path / "report.html", evaluated)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    check_harmless(page)
    shown = "".join(c if c.isprintable() or c == "\u202e" else "�" for c in text)
    assert page.classes["text"][0] == shown


def check_harmless(page):
    allowed = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "nav",
        "main",
    }
    allowed |= {"section", "div", "p", "span", "a", "h1", "h2", "h3", "h4", "ol", "li"}
    allowed |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "i", "b", "bdi"}
    allowed |= {"small", "figure", "figcaption", "details", "summary", "mark", "sup"}
    allowed |= {"label", "input", "svg", "g", "path", "defs", "use", "text", "rect"}
    allowed |= {"clippath"}
    for tag, attributes in page.tags:
        assert tag in allowed
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value.startswith("#")


def test_no_documents_and_no_results():
    for evaluated in (
        evaluation.run({"none": []}, [System("empty", lambda bare: bare)]),
        evaluation.run({"kore50": GOLD}),
        evaluation.run({}),
    ):
        check_harmless(Page(html.make_page(evaluated)))


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.mark.slow
def test_a_browser_opens_it_without_an_error(bobs, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("needs Chromium")
    html.write_report(tmp_path / "report.html", make_evaluation(bobs))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr"]
    command += [f"file://{tmp_path}/report.html"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True
    )
    assert "CONSOLE" not in done.stderr  # a refused style, a missing file, an exception
    assert Page(done.stdout).tables["table-scores"]
