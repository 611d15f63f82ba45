"""The documentation names what there is: metrics, detectors, files; each page is found, each link leads somewhere."""

import re
from pathlib import Path
from typing import get_args

import pytest

from contracts.service import DetectorOptions
from docs.reference import anchor_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, each with the anchor in it."""
    text = re.sub(r"^ *```.*?^ *```$|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = [target.partition("#") for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in found]


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as the usual pages make them."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {anchor_of(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target} has no heading #{anchor}"


def test_every_page_is_in_the_index_and_the_index_in_the_readme():
    index = ROOT / "docs/README.md"
    listed = {target for target, _ in links(index)}
    assert [str(page) for page in sorted((ROOT / "docs").rglob("*.md")) if page != index and page not in listed] == []
    assert index in {target for target, _ in links(ROOT / "README.md")}


def test_every_detector_is_explained():
    from models.detectors import SESSION_DETECTORS
    from models.detectors.sequence import Sequence
    from models.tracing import TRACE_DETECTORS
    from models.tracing.rates import Rates

    explained = (ROOT / "docs/detectors.md").read_text()
    for detector in (*SESSION_DETECTORS, Sequence):
        assert re.search(rf"^\| `{detector.name}` \|", explained, flags=re.MULTILINE), detector.name
    for kind in get_args(DetectorOptions.model_fields["kind"].annotation):
        assert re.search(rf"^\| `{kind}` \|", explained, flags=re.MULTILINE), kind
    across = (ROOT / "docs/detectors-faults.md").read_text()
    for detector in (*TRACE_DETECTORS, Rates):
        assert re.search(rf"^\| `{detector.name}` \|", across, flags=re.MULTILINE), detector.name


def test_files_named_in_the_map_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = "contracts|storage|parsing|models|streaming|training|deploy|cli|docs|tests"
    named = re.findall(rf"`((?:{rooms})/[a-z_./]+\.(?:py|md))`", text)
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).exists()] == []


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
