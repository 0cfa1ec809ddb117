"""Tables that no knowledge base can be made of."""

import pyarrow as pa
import pytest

from insgenel_jax.kb.build.tables import ENTITIES, FORMS, build_from_tables
from insgenel_jax.text.formats.rejects import InputError


def test_no_entity_and_twins_are_refused(tmp_path):
    none, forms = ENTITIES.empty_table(), FORMS.empty_table()
    with pytest.raises(InputError, match="expected an entity"):
        build_from_tables(tmp_path / "kb", none, forms)
    twins = [
        {"title": title, "description": "", "external_id": None, "inlinks": 0}
        for title in ("A b", "A_b")
    ]
    table = pa.Table.from_pylist(twins, schema=ENTITIES)
    with pytest.raises(ValueError, match="unique_titles"):
        build_from_tables(tmp_path / "kb", table, forms)
    assert list(tmp_path.iterdir()) == []
