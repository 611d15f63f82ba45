"""The commands in the documentation are real: every one is understood, and those that need no stack are run.

In a ``sh`` block every ``logcanary ...`` has to be a line that the command line takes, and a verb that looks at a file
is run, where that file is one of the page's. A ``console`` block is a session with its prompts: it is run as a whole,
and has to print what the page shows (``...`` stands for anything).
"""

import gzip
import re
import shlex
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from cli.main import app
from contracts.service import ServiceSettings
from contracts.settings import AppSettings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCES = {"", "console", "ini", "json", "sh", "toml", "yaml"}
QUICK = {"detect", "explain", "inspect", "parse"}
"""Verbs that need no stack, where what they look at is a file."""
OPERATORS = set("|&;()<>")


class Block(NamedTuple):
    kind: str
    text: str


def blocks(text: str) -> list[Block]:
    found = re.findall(r"^( *)```([a-z]*)\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(kind, textwrap.dedent(inner)) for _, kind, inner in found]


def parts(line: str) -> list[list[str]]:
    """The words of a line, cut where the shell cuts; a part that is written to begins with its operator."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(OPERATORS))
    lexer.whitespace_split, lexer.commenters = True, "#"
    cut: list[list[str]] = [[]]
    for word in lexer:
        if word and set(word) <= OPERATORS:
            cut.append([word])
        else:
            cut[-1].append(word)
    return cut


def ours(part: list[str]) -> list[str] | None:
    """The words that follow ``logcanary`` in a part of a line; None where it calls something else."""
    words = part[1:] if part and set(part[0]) <= OPERATORS else part
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:1] and words[0].rpartition("/")[2] == "logcanary":
        return words[1:]
    return words[words.index("cli.main") + 1 :] if "cli.main" in words else None


def lines_of(block: Block) -> Iterator[str]:
    text = block.text
    if block.kind == "console":
        text = "".join(f"{line[2:]}\n" for line in text.splitlines() if line.startswith(("$ ", "> ")))
    for line in text.replace("\\\n", " ").splitlines():
        if re.search(r"(^|[\s/])logcanary [^=]|cli\.main", line):
            yield line


def commands(text: str) -> list[list[str]]:
    found = [block for block in blocks(text) if block.kind in ("sh", "console")]
    return [words for block in found for line in lines_of(block) for part in parts(line) if (words := ours(part))]


def silent(command: object) -> object:
    """The command line with nothing behind it."""
    command.callback = None
    for inner in getattr(command, "commands", {}).values():
        silent(inner)
    return command


SILENT = silent(typer.main.get_command(app))


def complaint(words: list[str]) -> str:
    """What the command line has against these words; empty: nothing."""
    try:
        SILENT.main(args=words, prog_name="logcanary", standalone_mode=False)
    except (typer.Exit, SystemExit):
        return ""
    except Exception as error:  # whatever the library calls it
        return str(getattr(error, "message", "") or error or type(error).__name__)
    return ""


def test_what_is_wrong_is_seen(capsys):
    for line in (
        "logcanary detekt app.log",
        "logcanary train",
        "logcanary train --service",
        "logcanary alerts --loud",
        "logcanary settings set pay",
        "logcanary models budget --service pay --rate 2",
        "docker compose run --rm cli -m cli.main job sumbit",
    ):
        assert complaint(commands(f"```sh\n{line}\n```")[0]), line
    for line in (
        "logcanary alerts show 3fa2 # with the whole evidence",
        "zcat app.log.gz | .venv/bin/logcanary parse - --json | jq .EventTemplate",
        "LOGCANARY_KAFKA__BOOTSTRAP=kafka-1:9092 logcanary alerts",
        "logcanary detect new.log --baseline a.log b.log -o flink.buckets=2 > found.txt",
    ):
        assert not complaint(commands(f"```sh\n{line}\n```")[0]), line
    assert len(commands("```sh\nlogcanary up && logcanary down\n```")) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page, capsys):
    for words in commands(page.read_text()):
        assert not complaint(words), f"logcanary {shlex.join(words)}: {complaint(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_say_what_they_are(page):
    text = page.read_text()
    found = blocks(text)
    assert {block.kind for block in found} <= FENCES
    assert 2 * len(found) == len(re.findall(r"^ *```", text, flags=re.MULTILINE)), "a block does not end"
    for block in found:
        if block.kind == "":
            assert "logcanary " not in re.sub(r"logcanary alerts --> verdicts", "", block.text), (
                "a command outside of sh"
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_the_pages_are_settings(page):
    for block in blocks(page.read_text()):
        if block.kind != "toml" or block.text.startswith("[sources"):
            continue
        values = tomllib.loads(block.text)
        try:
            ServiceSettings.model_validate({"service": "pay"} | values)
        except ValidationError as of_a_service:
            try:
                AppSettings(**values)
            except ValidationError as error:
                pytest.fail(f"{block.text}\n{of_a_service}\n{error}")


# -- run ---------------------------------------------------------------------------------------------------------------


def shop(first: int, orders: int) -> str:
    """The log of a shop, in which one order of the later ones is not charged."""
    out = []
    for n in range(first, first + orders):
        at = f"2026-01-31 {8 + n // 720:02d}:{n // 12 % 60:02d}:{n % 12 * 5:02d}"
        out += [
            f"{at} INFO  shop.Cart - order={n} checkout of {n % 7 + 1} items",
            f"{at} INFO  shop.Stock - order={n} items reserved in warehouse {n % 3 + 1}",
            f"{at} INFO  shop.Payment - order={n} charged {n * 37 % 900 + 5} EUR",
            f"{at} INFO  shop.Parcel - order={n} handed to carrier {n % 2 + 1}",
        ]
        if n == first + orders - 50:
            del out[-2]
    return "\n".join(out) + "\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which a page is read: with the logs that pages talk of, no settings and no stack."""
    for name in ("app", "today", "monday"):
        (tmp_path / f"{name}.log").write_text(shop(0, 400))
    for name in ("app", "tuesday"):
        (tmp_path / f"{name}.log.gz").write_bytes(gzip.compress(shop(400, 400).encode(), 1))
    monkeypatch.chdir(tmp_path)
    for name in ("LOGCANARY_HOME", "LOGCANARY_CONFIG", "LOGCANARY_KAFKA__BOOTSTRAP", "FORCE_COLOR"):
        monkeypatch.setenv(name, "x")  # so that what the code sets is undone too
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TZ", "UTC")
    return tmp_path


def run(line: str) -> str:
    """Run a line of a shell that calls ``logcanary`` at most, with what it says; fails where it fails."""
    found = [(ours(part), part) for part in parts(line)]
    if not found or found[0][0] is None:
        return subprocess.run(
            ["bash", "-c", line], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout
    said = ""
    for words, part in found:
        if words is not None:
            done = CliRunner().invoke(app, words)
            said += done.output
            if done.exit_code:
                assert done.exit_code in (1, 2), f"{line}: {done.exit_code} {done.output} {done.exception!r}"
                return said + f"[exit {done.exit_code}]\n"
        else:
            assert part[0] == ">", f"{line}: only > and && may follow"
            Path(part[1]).write_text(done.stdout)
            said = said.replace(done.stdout, "")
    return said


def is_quick(words: list[str]) -> bool:
    return len(words) > 1 and words[0] in QUICK and Path(words[1]).is_file()


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a session, each with what it is to print."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith(">") and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def fits(shown: str, said: str) -> bool:
    """Whether what was said is what is shown."""
    form = ""
    for line in tidy(shown).splitlines():
        form += r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
    return re.fullmatch(form, tidy(said)) is not None


def test_what_is_shown_is_held_to_what_is_said():
    assert fits("a\n...\nz\n", "a\nb\n\nc  \nz\n")
    assert fits("took ... s", "took 0.2 s\n")
    assert not fits("a\nz\n", "a\nb\nz\n")
    assert steps("$ a\n> b\nc\n$ d\n") == [("a\nb", "c\n"), ("d", "")]


RUN = [
    page
    for page in PAGES
    if page.parent.name != "reference"
    and any(block.kind == "console" for block in blocks(page.read_text()))
    | any(words[0] in QUICK for words in commands(page.read_text()))
]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_what_needs_no_stack_does_what_the_page_says(page, folder):
    for block in blocks(page.read_text()):
        if block.kind == "console":
            for line, shown in steps(block.text):
                said = run(line)
                if "logcanary: " not in shown:
                    assert "[exit " not in said, said
                said = re.sub(r"\[exit \d\]\n", "", said)
                assert fits(shown, said), f"{line}\n\nshown:\n{tidy(shown)}\nsaid:\n{tidy(said)}"
        elif block.kind == "sh":
            for line in lines_of(block):
                found = [words for part in parts(line) if (words := ours(part))]
                if "|" not in line and all(map(is_quick, found)):
                    said = run(line)
                    assert "[exit " not in said, f"{line}\n{said}"


def test_the_tutorial_is_run():
    assert sum(block.kind == "console" for block in blocks((ROOT / "docs/tutorial.md").read_text())) >= 4
