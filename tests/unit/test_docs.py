"""The documentation names what there is: metrics, commands, files."""

import re
from pathlib import Path

import pytest
import typer

from cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_files_named_in_the_map_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = "contracts|storage|parsing|models|streaming|training|deploy|cli|docs|tests"
    named = re.findall(rf"`((?:{rooms})/[a-z_./]+\.(?:py|md))`", text)
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_exist(page):
    root = typer.main.get_command(app)
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL))
    for words in re.findall(r"logcanary ([a-z][^\n|#&>]*)", blocks):
        command = root
        for word in words.split():
            if not hasattr(command, "commands"):
                break
            if command.commands.get(word) is None:
                assert command.invoke_without_command, words
                break
            command = command.commands[word]
        flags = {flag for parameter in command.params for flag in parameter.opts} | {"-o", "--config"}
        assert [word for word in words.split() if re.match(r"--?[a-z]", word) and word not in flags] == [], words


def test_every_metric_is_documented_and_no_other():
    from streaming.exporter import Metrics

    metrics = Metrics()
    metrics.know("pay")
    exported = set()
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        if name.startswith("logcanary_"):
            exported.add(name)
    documented = set(
        re.findall(r"^\| `(logcanary_[a-z_]+)`", (ROOT / "docs/metrics.md").read_text(), flags=re.MULTILINE)
    )
    assert documented == exported


def test_every_invariant_names_tests_that_exist():
    text = (ROOT / "docs/invariants.md").read_text()
    sentences = re.findall(r"^- (\d+\.\d+) (.*?)(?=^- |^#|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert len(sentences) > 30
    for number, sentence in sentences:
        named_tests_exist(number, sentence)


def test_every_attack_names_tests_that_exist():
    text = (ROOT / "docs/access.md").read_text().partition("## Attacks")[2]
    rows = re.findall(r"^\| (?!attack|---)(.*?) \|", text, flags=re.MULTILINE)
    assert len(rows) > 15
    for attack, line in zip(rows, [one for one in text.splitlines() if one.startswith("| ")][1:], strict=True):
        named_tests_exist(attack, line)


def named_tests_exist(name, text):
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", text)
    assert named, f"{name} names no test"
    for path, test in named:
        assert (ROOT / path).exists(), f"{name}: {path}"
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), flags=re.MULTILINE), f"{name}: {test}"
