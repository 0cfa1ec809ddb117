"""Names that a knowledge base refuses, the forms of titles, and titles made unique."""

import pytest

from insgenel_jax.kb import Entity
from insgenel_jax.kb.build.names import title_forms, unique_titles
from insgenel_jax.text.formats.rejects import Rejects


@pytest.mark.parametrize(
    ("title", "forms"),
    [
        ("Ada", ["Ada"]),
        ("Ada (film)", ["Ada (film)", "Ada"]),
        ("Bo, Ada", ["Bo, Ada", "Bo"]),
        ("Bo, Ada (film)", ["Bo, Ada (film)", "Bo, Ada", "Bo"]),
        ("(What) Bo", ["(What) Bo"]),
        ("Bo(x)", ["Bo(x)"]),
        (" (x)", [" (x)"]),
        (", x", [", x"]),
        ("New_York_City", ["New York City"]),
        ("Bo,_Ada_(film)", ["Bo, Ada (film)", "Bo, Ada", "Bo"]),
    ],
)
def test_forms_of_a_title(title, forms):
    assert list(title_forms(title)) == forms


def test_titles_are_made_unique():
    rejects = Rejects()
    titles = ["Ada", "Bo", "Ada (2)", "Ada", "A[x]", "A(x)", "B_o", "B o", "Ada"]
    unique = unique_titles(map(Entity, titles), rejects, "here")
    assert [entity.title for entity in unique] == [
        "Ada",
        "Bo",
        "Ada (2)",
        "Ada (3)",
        "A[x]",
        "A(x) (2)",
        "B_o",
        "B o (2)",
        "Ada (4)",
    ]
    assert rejects.notes == {"title taken": 4} and not rejects.count
