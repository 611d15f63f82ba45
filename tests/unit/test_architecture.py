"""Imports point one way, torch stays in training, Flink in streaming: read from the source, nothing is imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "contracts": set(),
    "storage": {"contracts"},
    "parsing": {"contracts"},
    "models": {"contracts", "storage", "parsing"},
    "streaming": {"contracts", "storage", "parsing", "models"},
    "training": {"contracts", "storage", "parsing", "models"},
    "deploy": {"contracts"},
    "console": {"contracts", "storage", "parsing", "models", "training"},
    "cli": {"contracts", "storage", "parsing", "models", "streaming", "training", "console", "deploy"},
}
EXCEPTIONS = {
    "streaming/prepare.py": {"training"},  # the same preparation as on one machine, in the worker alone
    "streaming/submit.py": {"deploy"},  # a job is submitted by Flink's client, which deploy.jobs starts and keeps
    "training/pipeline_bench.py": {"streaming", "deploy"},  # measures a running job of the local stack
    "training/training_bench.py": {"streaming"},  # makes an archive as the archiver does
}
ONLY_IN = {"torch": {"training"}, "onnx": {"training"}, "pyflink": {"streaming"}}
CORE = ("cli.main", "models.detect", "cli.detecting", "cli.report", "cli.page", "cli.explaining", "models.explaining")
"""What the quick way in needs: no JVM, no torch, no broker."""


def sources(room):
    return sorted((ROOT / room).rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide where a name comes from"
            yield node.lineno, (node.module or "").split(".")[0]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    assert sources(room)
    allowed = MAY_IMPORT[room] | {room}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in imports(path)
        if name in MAY_IMPORT and name not in allowed | EXCEPTIONS.get(str(path.relative_to(ROOT)), set())
    ]
    assert not wrong


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_packages_stay_in_their_room(package):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for room in set(MAY_IMPORT) - ONLY_IN[package]
        for path in sources(room)
        for line, name in imports(path)
        if name == package
    ]
    assert not wrong


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_nothing_is_unpickled(room):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(room)
        for line, name in imports(path)
        if name in {"pickle", "cloudpickle", "dill", "marshal", "shelve", "jsonpickle"}
    ]
    assert not wrong


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_module_says_its_one_job(room):
    silent = [str(path) for path in sources(room) if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent


def test_the_quick_way_in_loads_neither_torch_nor_flink_nor_kafka():
    code = (
        f"import sys\nfor name in {CORE!r}: __import__(name)\n"
        "print(sorted({'torch', 'pyflink', 'kafka', 'psutil', 'jgo'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
    code = (
        "import sys, cli.main\n"
        "print(sorted({'pydantic', 'polars', 'numpy', 'kafka', 'rich', 'torch', 'pyflink'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
