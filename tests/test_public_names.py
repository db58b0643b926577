"""Public names stand once, in `__all__`, sorted and true."""

import ast
from pathlib import Path

import pytest

_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
PACKAGE = Path(__file__).resolve().parents[1] / "detflow"


def modules():
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py")
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_all_is_sorted_and_names_what_is_public(path):
    tree = ast.parse(path.read_text())
    declared, defined = None, set()
    for node in tree.body:
        if isinstance(node, _DEFINITIONS):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    defined.add(target.id)
                    if target.id == "__all__":
                        declared = ast.literal_eval(node.value)
    assert declared is not None, "the module has no __all__"
    assert len(set(declared)) == len(declared)
    assert set(declared) <= defined
    functions_and_classes = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    commands = path.parent.name == "cli"
    assert commands or {name for name in functions_and_classes if not name.startswith("_")} <= set(
        declared
    )
