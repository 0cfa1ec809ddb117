"""The imports of every file against the house of DESIGN.md, section 3."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "insgenel_jax"

# room -> rooms it may import from (besides itself); everything else is forbidden
LEAVES = {"document", "artifact"}
KB = LEAVES | {"formats"}
RETRIEVAL = {"models", "kb", "chunking", "tokenizer", "sharding", *LEAVES}
LINKER = RETRIEVAL | {"retrieval", "decoding", "linked_text"}
MAY_IMPORT = {
    "document": set(),
    "artifact": set(),
    "formats": {"document"},
    "kb": KB,
    "tokenizer": {"artifact"},
    "chunking": set(),
    "linked_text": {"tokenizer", "document"},
    "sharding": set(),
    "models": {"sharding"},
    "decoding": {"kb", "linked_text", "tokenizer", *LEAVES},
    "retrieval": RETRIEVAL,
    "training": LINKER - {"decoding"},
    "linker": LINKER,
    "evaluation": {"linker", "formats", "kb", *LEAVES},
}
ROOM_OF = {
    "linker_directory": "linker",
    "linker_chunks": "linker",
    "linker_decoders": "linker",
    "linker_titles": "linker",
    "linker_scores": "linker",
    "tokenizer_families": "tokenizer",
    "tokenizer_files": "tokenizer",
}
ENTRY_POINTS = {"prepare", "train", "index", "link", "evaluate", "__init__"}
ENTRY_POINTS |= {"cli"}  # what they share; no room may import it


def files():
    return sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    name = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return ROOM_OF.get(name, name)


def imports(file: Path) -> set[str]:
    """The modules a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            found.add(node.module)
            if node.module == "insgenel_jax":
                found |= {f"insgenel_jax.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_rooms(file):
    here = room(file)
    if here in ENTRY_POINTS:
        return
    assert here in MAY_IMPORT, f"{file.name} is in no room of the house"
    for module in imports(file):
        parts = module.split(".")
        if parts[0] == "insgenel_jax" and len(parts) > 1:
            other = ROOM_OF.get(parts[1], parts[1])
            assert other == here or other in MAY_IMPORT[here], (
                f"{file.relative_to(ROOT)} imports {module}: {here} may not import "
                f"{other}"
            )
        if parts[0] == "flax":
            assert here == "models", f"{file.name} imports flax outside models/"
        assert parts[0] not in ("pickle", "dill", "cloudpickle")
        if parts[0] == "torch":  # for *.bin, where it is installed
            assert file == PACKAGE / "models/tensors.py"


def test_every_file_is_one_idea():
    long = {f.name: len(f.read_text().splitlines()) for f in files()}
    assert not {name: lines for name, lines in long.items() if lines > 400}


@pytest.mark.parametrize(
    "module", ["insgenel_jax", "insgenel_jax.kb.knowledge_base", "insgenel_jax.formats"]
)
def test_imports_no_jax(module):
    code = f"import {module}, sys; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
