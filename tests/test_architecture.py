"""The shape of the package: imports point down, and everything public is explained."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "recjax"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module may import those of its own row and of the rows above it.
LAYERS = (
    ("types", "reduce", "console", "phases", "top_k", "significance"),
    ("lists", "optimizers", "sparse", "sharding"),
    ("sampling", "graphs", "layers", "losses", "metrics"),
    ("objectives", "alignments", "data"),
    ("models",),
    ("chunks", "ranking", "area", "recommendation", "evaluation", "checkpoint"),
    ("training",),
    ("config", "run_folder", "pipeline", "plan"),
    ("cli", "named_model", "options", "commands", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Names below `recjax` that a file imports, whether at its top or inside."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "recjax" else [node.module]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_down(path):
    own = dotted(path).split(".")
    if own == ["recjax"]:
        return
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] not in ("experiments", "benchmarks", "tests"), name
        if parts[0] == "recjax" and len(parts) > 1 and parts[1] in RANK:
            assert RANK[parts[1]] <= RANK[own[1]], f"{dotted(path)} imports {name}"


def test_training_and_evaluation_know_no_model():
    for path in MODULES:
        if dotted(path).split(".")[1:2] in (
            ["training"],
            ["evaluation"],
            ["chunks"],
            ["ranking"],
            ["area"],
            ["recommendation"],
            ["checkpoint"],
            ["sampling"],
            ["sharding"],
        ):
            names = set(imported(path))
            assert not any(name.startswith("recjax.models") for name in names), path


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_files_fit_in_the_head_and_load_nothing_that_executes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 420, "one idea a file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), path
    assert "import pickle" not in text


def public():
    for path in MODULES:
        name = dotted(path)
        module = importlib.import_module(name)
        if any(part.startswith("_") for part in name.split(".")):
            continue
        exported = getattr(module, "__all__", ())
        for attribute in dir(module):
            value = getattr(module, attribute)
            if attribute.startswith("_") or not inspect.isfunction(value):
                continue
            if attribute in exported or value.__module__ == name:
                yield f"{name}.{attribute}", value


@pytest.mark.parametrize("name_and_value", list(public()), ids=lambda pair: pair[0])
def test_public_functions_are_documented(name_and_value):
    name, function = name_and_value
    text = inspect.getdoc(function) or ""
    assert text, name
    if inspect.signature(function).parameters and len(text.splitlines()) > 1:
        assert "Args:" in text, f"{name}: say what its arguments are"
