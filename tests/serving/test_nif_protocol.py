"""NIF as GERBIL sends it, and what comes back, read by rdflib."""

from __future__ import annotations

import pytest

rdflib = pytest.importorskip("rdflib")

from tests.helpers.service import serving

NIF = rdflib.Namespace(
    "http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#"
)
ITSRDF = rdflib.Namespace("http://www.w3.org/2005/11/its/rdf#")
TEXT = "🎉 Naïve? Michael Jordan was in Paris."
BASE = "http://www.aksw.org/gerbil/NifWebService/request_0"
HEAD = """@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix itsrdf: <http://www.w3.org/2005/11/its/rdf#> .
@prefix nif: <http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#> .
"""


def context(text=TEXT, base=BASE):
    return f"""
<{base}#char=0,{len(text)}>
    a nif:RFC5147String , nif:String , nif:Context ;
    nif:beginIndex "0"^^xsd:nonNegativeInteger ;
    nif:endIndex "{len(text)}"^^xsd:nonNegativeInteger ;
    nif:isString "{text}"^^xsd:string .
"""


def phrase(surface, text=TEXT, base=BASE):
    start = text.index(surface)
    end = start + len(surface)
    return f"""
<{base}#char={start},{end}>
    a nif:RFC5147String , nif:String , nif:Phrase ;
    nif:anchorOf "{surface}"^^xsd:string ;
    nif:beginIndex "{start}"^^xsd:nonNegativeInteger ;
    nif:endIndex "{end}"^^xsd:nonNegativeInteger ;
    nif:referenceContext <{base}#char=0,{len(text)}> .
"""


def send(running, *parts, **params):
    headers = {
        "Content-Type": "application/x-turtle;charset=UTF-8",
        "Accept": "application/x-turtle",
    }
    content = (HEAD + "".join(parts)).encode()
    return running.client.post("/nif", content=content, headers=headers, params=params)


def read(answer):
    """Context -> (text, {(start, end): (anchor, entities, confidence)})."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-turtle")
    graph = rdflib.Graph().parse(data=answer.text, format="turtle")
    found = {}
    for node in graph.subjects(rdflib.RDF.type, NIF.Context):
        links = {}
        for mention in graph.subjects(NIF.referenceContext, node):
            span = tuple(
                graph.value(mention, p).toPython()
                for p in (NIF.beginIndex, NIF.endIndex)
            )
            entities = sorted(map(str, graph.objects(mention, ITSRDF.taIdentRef)))
            score = graph.value(mention, ITSRDF.taConfidence)
            links[span] = (str(graph.value(mention, NIF.anchorOf)), entities, score)
        found[str(node)] = (str(graph.value(node, NIF.isString)), links)
    return found


def test_a_document_is_linked_with_offsets_in_code_points(running, linker):
    found = read(send(running, context()))
    ((text, links),) = found.values()
    assert list(found) == [f"{BASE}#char=0,{len(TEXT)}"] and text == TEXT
    expected = {(m.start, m.end): m.entity for m in linker(TEXT).mentions}
    assert links.keys() == expected.keys() and links
    for (start, end), (anchor, entities, score) in links.items():
        assert anchor == TEXT[start:end] and score is None
        entity = expected[start, end].replace(" ", "_")
        assert f"http://dbpedia.org/resource/{entity}" in entities


def test_marked_phrases_are_linked_and_no_others(running, linker):
    answer = send(running, context(), phrase("Paris"), phrase("Naïve"), scores=True)
    ((_, links),) = read(answer).values()
    start = TEXT.index("Paris")
    span, naive = (start, start + 5), (2, 7)
    assert links.keys() == {span, naive}
    (mention,) = linker(TEXT, mentions=[span]).mentions
    assert links[span][1][0].endswith(mention.entity.replace(" ", "_"))
    assert float(links[span][2]) == pytest.approx(mention.score, abs=1e-5)
    assert links[naive][1] == ["http://aksw.org/notInWiki/Na%C3%AFve"]
    ((_, links),) = read(
        send(running, context(), phrase("Paris"), threshold=1.0)
    ).values()
    assert mention.score < 1 and "notInWiki" in links[span][1][0]


def test_several_documents_each_in_its_own_way(running):
    one, two = "http://a.org/1", "http://a.org/2"
    answer = send(
        running, context(base=one), context(base=two), phrase("Paris", base=two)
    )
    found = {node.split("#")[0]: links for node, (_, links) in read(answer).items()}
    assert len(found[one]) > 1 and len(found[two]) == 1


def test_the_uris_of_entities_are_as_configured(linker):
    with serving(linker, entity_uris="https://mesh.example/") as running:
        ((_, links),) = read(send(running, context(), phrase("Paris"))).values()
    ((_, entities, _),) = links.values()
    assert any(uri.startswith("https://mesh.example/") for uri in entities)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no turtle", "line 1: not Turtle"),
        (b"", "expected a nif:Context"),
        (b"\xff", "expected UTF-8"),
        ((HEAD + context().replace('"38"', '"9"')).encode(), None),
        ((HEAD + context() + phrase("Paris").replace('"Paris"', '"Rome"')).encode(),
         "not a mention: expected its anchor"),
        ((HEAD + "<http://a.org/#char=0,1> a nif:Context .").encode(), "isString"),
    ],
)  # fmt: skip
def test_what_is_no_nif_is_refused(running, content, reason):
    answer = running.client.post("/nif", content=content)
    if reason is None:  # the context's own end may be wrong
        assert answer.status_code == 200
    else:
        assert answer.status_code == 400 and reason in answer.json()["detail"]
