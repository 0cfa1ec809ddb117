"""The imports of every file against the layout that CONTRIBUTING.md describes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "insgenel_jax"

# What CONTRIBUTING.md says under "may import": package or file of the
# root -> what it may import of ours, besides itself. Everything else is forbidden.
MAY_IMPORT = {
    "aside": "",
    "stopping": "",
    "lock": "text",
    "cluster": "text",
    "artifact": "aside",
    "sharding": "",
    "processes": "",
    "tokenizer": "artifact",
    "text": "tokenizer aside",
    "kb": "text artifact aside cluster",
    "mini_world": "kb text",
    "models": "sharding",
    "decoding": "kb text tokenizer artifact",
    "generator": "models tokenizer sharding artifact",
    "smaller": "models tokenizer artifact",
    "merging": "retrieval generator models tokenizer artifact",
    "retrieval": "models kb text tokenizer sharding artifact lock",
    "training": "retrieval generator models kb text tokenizer sharding artifact "
    "processes",
    "linker": "retrieval decoding generator models kb text tokenizer sharding artifact "
    "stopping",
    "jobs": "linker text cli artifact aside lock stopping cluster",
    "icl": "linker generator decoding text kb",
    "serving": "linker icl kb text",
    "evaluation": "linker text kb cli artifact",
    "studies": "evaluation icl linker training retrieval decoding generator kb text "
    "tokenizer mini_world cli artifact",
    "cli": "linker text artifact stopping",
    "ahead": "training linker retrieval models tokenizer text sharding cli",
}
ENTRY_POINTS = {"prepare", "base", "train", "index", "link", "evaluate"}
ENTRY_POINTS |= {"finetune", "study", "tune", "ask", "set", "explain", "convert"}
ENTRY_POINTS |= {"serve"}
ROOT_FILES = {
    "__init__",
    "__main__",
    "artifact",
    "aside",
    "stopping",
    "lock",
    "cluster",
    "sharding",
    "generator",
    "smaller",
    "merging",
    "processes",
    "cli",
}
ROOT_FILES |= ENTRY_POINTS


def files():
    return sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    """The package, or the file of the root, that a file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """The modules a file imports, anywhere in it."""
    found = set()
    tree = ast.parse(file.read_text())
    if file == PACKAGE / "__init__.py":  # what it imports for type checkers alone
        tree.body = [node for node in tree.body if not is_type_checking(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            found.add(node.module)
            if node.module == "insgenel_jax":
                found |= {f"insgenel_jax.{alias.name}" for alias in node.names}
    return found


def is_type_checking(node: ast.stmt) -> bool:
    """Whether a statement is `if TYPE_CHECKING: ...`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports(file):
    here = room(file)
    for module in imports(file):
        parts = module.split(".")
        if parts[0] == "insgenel_jax" and len(parts) > 1:
            check_import(file, here, parts[1])
        if parts[0] == "flax":
            assert here == "models", f"{file.name} imports flax outside models/"
        assert parts[0] not in ("pickle", "dill", "cloudpickle")
        if parts[0] == "torch":  # for *.bin, where it is installed
            assert file.parent == PACKAGE / "models/hf"


def check_import(file: Path, here: str, other: str) -> None:
    if here == "__main__":  # the console script
        return
    if here in ENTRY_POINTS:
        assert other not in ENTRY_POINTS, f"{file.name} imports another entry point"
        return
    if here == "__init__":
        assert other == "__version__", f"{file.name}: imports {other}; lazily, please"
        return
    assert here in MAY_IMPORT, f"{file.relative_to(ROOT)} is not in the table"
    assert other == here or other in MAY_IMPORT[here].split(), (
        f"{file.relative_to(ROOT)} imports {other}, which {here} may not"
    )


def test_files_of_the_root():
    found = {path.stem for path in PACKAGE.glob("*.py")}
    assert found <= ROOT_FILES
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(MAY_IMPORT)


LONGEST_FUNCTION = 60  # lines; a rule of thumb that has held for every function so far


def test_functions_are_short():
    long = [
        f"{file.relative_to(PACKAGE)}: {node.name}, {length} lines"
        for file in files()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not long


@pytest.mark.parametrize(
    "module",
    [
        "insgenel_jax",
        "insgenel_jax.evaluation.report",
        "insgenel_jax.icl.client",
        "insgenel_jax.icl.linker",
        "insgenel_jax.linker.calibrator",
        "insgenel_jax.kb.knowledge_base",
        "insgenel_jax.text.formats.documents",
    ],
)
def test_imports_no_jax(module):
    code = f"import {module}, sys; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
