"""Real corpora through the parser: what comes out is pinned in ``parsing.json``.

Where a change is meant to alter templates, ``GOLDEN_WRITE=1 pytest tests/golden -s`` prints and writes the new values.
"""

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from contracts.service import ServiceSettings
from parsing.events import Lines, template_hex
from parsing.parser import Parser

GOLDEN = Path(__file__).parent / "parsing.json"
DATA = Path(os.environ.get("LOGCANARY_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SYSTEMS = (
    *("Android", "Apache", "BGL", "HDFS", "HPC", "Hadoop", "HealthApp", "Linux"),
    *("Mac", "OpenSSH", "OpenStack", "Proxifier", "Spark", "Thunderbird", "Windows", "Zookeeper"),
)
ARRIVAL = 1_795_352_869_000  # 2026-11-22: after every line of the corpora
BATCH = 5_000


def lines_of(path: Path) -> list[bytes]:
    if not path.exists():
        if "LOGCANARY_DATA" in os.environ:
            pytest.fail(f"LOGCANARY_DATA is set, and {path} is not there")
        pytest.skip(f"no log data: {path} is not there; set LOGCANARY_DATA to its folder")
    return gzip.decompress(path.read_bytes()).removesuffix(b"\n").split(b"\n")


def batches(service: str, values: list[bytes], size: int = BATCH) -> Iterator[Lines]:
    for first in range(0, len(values), size):
        part = values[first : first + size]
        n = len(part)
        yield Lines.from_list(service, f"logs.{service}", 0, np.arange(first, first + n), np.full(n, ARRIVAL), part)


def figures(service: str, values: list[bytes]) -> dict[str, object]:
    """Parse a corpus with the default settings and sum it up."""
    parser = Parser(ServiceSettings(service=service))
    ids, sessions, times = sha256(), sha256(), sha256()
    texts: dict[int, str] = {}
    events = dead = 0
    levels: set[str] = set()
    for lines in batches(service, values):
        parsed = parser.parse(lines)
        ids.update(parsed.events.template_ids().astype("<u8").tobytes())
        sessions.update("\n".join(parsed.events.frame["session"]).encode())
        times.update(parsed.events.column("time").astype("<i8").tobytes())
        texts |= parsed.events.templates
        levels |= set(parsed.events.frame["level"])
        events += len(parsed.events)
        dead += len(parsed.dead)
    assert events + dead == len(values)
    listing = "\n".join(f"{template_hex(template)} {texts[template]}" for template in sorted(texts))
    return {
        "lines": len(values),
        "dead": dead,
        "format": parser.resolved.format,
        "sessions": parser.session_rule,
        "levels": sorted(levels),
        "templates": len(texts),
        "templates_hash": sha256(listing.encode()).hexdigest()[:16],
        "ids_hash": ids.hexdigest()[:16],
        "sessions_hash": sessions.hexdigest()[:16],
        "times_hash": times.hexdigest()[:16],
    }


def check(name: str, found: dict[str, object]) -> None:
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("GOLDEN_WRITE"):
        print(name, json.dumps(found, indent=1))
        golden[name] = found
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert found == golden.get(name), f"{name}: see this module's first lines for how to write new values"


@pytest.mark.parametrize("system", SYSTEMS)
def test_loghub(system: str) -> None:
    check(f"loghub/{system}", figures(system.lower(), lines_of(DATA / "loghub" / system / f"{system}_2k.log.gz")))


def test_hdfs() -> None:
    check("hdfs", figures("hdfs", lines_of(DATA / "hdfs" / "hdfs.log.gz")))


def test_trainticket() -> None:
    """27 services, each with its own parser; as container records and (every fourth) as whole records: they agree."""
    services: defaultdict[str, list[bytes]] = defaultdict(list)
    whole: defaultdict[str, list[bytes]] = defaultdict(list)
    for line in lines_of(DATA / "trainticket" / "2023-01-29.jsonl.gz"):
        record = json.loads(line)
        service = record["pod"].rsplit("-", 2)[0]
        services[service].append(record["log"].encode())
        whole[service].append(line)
    assert len(services) == 27
    found = {service: figures(service, values) for service, values in services.items()}
    check("trainticket", found)  # type: ignore[arg-type]
    for service in sorted(whole)[::4]:
        again = figures(service, whole[service])
        assert again["ids_hash"] == found[service]["ids_hash"], service
        assert again["levels"] == found[service]["levels"], service


def test_batches_and_restarts_change_nothing() -> None:
    """A real corpus in batches of several sizes, with restarts in between: the same ids for the same lines."""
    values = lines_of(DATA / "loghub" / "Mac" / "Mac_2k.log.gz") + lines_of(DATA / "hdfs" / "hdfs.log.gz")[:6000]
    ids = []
    for size, restart in ((len(values), 0), (2_500, 2), (333, 5)):
        parser = Parser(ServiceSettings(service="s"))
        parts = []
        for number, lines in enumerate(batches("s", values, size)):
            if restart and number % restart == 1:
                state = parser.dump()
                parser = Parser(ServiceSettings(service="s"))
                parser.load(state)
            parts.append(parser.parse(lines).events.template_ids())
        ids.append(np.concatenate(parts))
    assert (ids[0] == ids[1]).all()
    assert (ids[0] == ids[2]).all()
