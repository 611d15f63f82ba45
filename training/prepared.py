"""Prepared data sets in the store: what a batch job on the cluster makes of the archive, for a training to begin with.

    save(files, root, "pay", "tonight", dataset)
    dataset = load(files, root, "pay", "tonight")

    <root>/prepared/<service>/<name>.bin, <name>.json

Columns by ``models.encoding`` in zstd; nothing in them is ever executed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from contracts.bundle import Sanity
from contracts.records import Template
from models.encoding import StateError, pack, unpack
from models.finished import Sessions
from models.gating import Reviewed
from models.learning import Material
from storage.files import Files
from training.dataset import Dataset
from training.learner import TrainingError

NAME, FORMAT = "prepared", 1
Columns = dict[str, NDArray[np.generic]]

_MATERIAL = ("contexts", "targets", "which", "sessions", "streams")
_SESSIONS = ("starts", "templates", "times", "levels", "closed", "seen")


@dataclass(frozen=True, slots=True)
class Counts:
    """What a data set holds, as one machine and the cluster must agree on it."""

    service: str
    lines: int
    dead: int
    templates: int
    windows: int
    unique_windows: int
    sessions: int
    states: int
    """Whole sessions in every state in which they rested."""
    digest: int
    """Of every distinct window and how often it came, in any order."""


def count(service: str, data: Dataset) -> Counts:
    """Count what a data set holds."""
    material = data.material
    windows = np.column_stack([material.contexts, material.targets])
    often = np.bincount(material.which, minlength=len(windows)).astype(np.uint64)
    mixed = np.zeros(len(windows), dtype=np.uint64)
    for column in (*windows.T, often):
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return Counts(
        service,
        material.lines,
        data.dead,
        len(material.templates),
        len(material.which),
        len(windows),
        len(np.unique(material.sessions)),
        len(data.sessions),
        int(mixed.sum(dtype=np.uint64)),
    )


def path_of(root: str, service: str, name: str) -> str:
    """Where a prepared data set lies."""
    return f"{root.rstrip('/')}/prepared/{service}/{name}.bin"


def _counts_of(root: str, service: str, name: str) -> str:
    return path_of(root, service, name).removesuffix(".bin") + ".json"


def save(files: Files, root: str, service: str, name: str, data: Dataset) -> None:
    """Write a data set, and what it holds in numbers; one that a killed task left under that name is replaced.

    Raises:
        StorageError: the store does not answer.
    """
    for path, written in (
        (path_of(root, service, name), zstandard.compress(encode(data))),
        (_counts_of(root, service, name), as_json(count(service, data)).encode()),
    ):
        files.delete(path)
        files.write(path, written)


def counts(files: Files, root: str, service: str, name: str) -> dict[str, Any]:
    """What a prepared data set holds, as whoever prepared it counted.

    Raises:
        FileNotFoundError: it is not there.
        StorageError: the store does not answer.
    """
    found: dict[str, Any] = json.loads(files.read(_counts_of(root, service, name)))
    return found


def load(files: Files, root: str, service: str, name: str) -> Dataset:
    """Read a data set.

    Raises:
        TrainingError: it is not there, or damaged.
        StorageError: the store does not answer.
    """
    path = path_of(root, service, name)
    try:
        return decode(zstandard.decompress(files.read(path)))
    except FileNotFoundError:
        raise TrainingError(
            f"nothing is prepared as {name} for service {service}: `logcanary prepare --name {name}` does it"
        ) from None
    except (StateError, zstandard.ZstdError, KeyError, ValueError) as error:
        raise TrainingError(f"{path} is damaged ({error}): prepare it again") from error


def encode(data: Dataset) -> bytes:
    """A data set as bytes."""
    meta = {
        "topic": data.topic,
        "dead": data.dead,
        "found": [one.model_dump(mode="json") for one in data.found],
        "sanity": data.sanity.model_dump(mode="json"),
        "whole": _meta(data.material, data.sessions),
        "reviewed": [
            {"name": one.name, "is_confirmed": one.is_confirmed} | _meta(one.material, one.sessions)
            for one in data.reviewed
        ],
    }
    columns = _columns("", data.material, data.sessions)
    for number, one in enumerate(data.reviewed):
        columns |= _columns(f"{number}.", one.material, one.sessions)
    columns["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    return pack(NAME, FORMAT, columns)


def decode(data: bytes) -> Dataset:
    """What ``encode`` wrote.

    Raises:
        StateError, KeyError, ValueError: the bytes are damaged.
    """
    columns = unpack(data, NAME, FORMAT)
    meta = json.loads(columns["meta"].tobytes())
    material, sessions = _pair("", columns, meta["whole"])
    reviewed = tuple(
        Reviewed(one["name"], one["is_confirmed"], *_pair(f"{number}.", columns, one))
        for number, one in enumerate(meta["reviewed"])
    )
    found = tuple(Template.model_validate(one) for one in meta["found"])
    return Dataset(
        material, meta["topic"], meta["dead"], found, sessions, Sanity.model_validate(meta["sanity"]), reviewed
    )


def _columns(prefix: str, material: Material, sessions: Sessions) -> Columns:
    columns: Columns = {f"{prefix}material.{name}": getattr(material, name) for name in _MATERIAL}
    return columns | {f"{prefix}sessions.{name}": getattr(sessions, name) for name in _SESSIONS}


def _meta(material: Material, sessions: Sessions) -> dict[str, Any]:
    texts = {str(template): text for template, text in material.templates.items()}
    times = {name: getattr(material, name) for name in ("lines", "from_ms", "to_ms", "left_out")}
    return {"texts": texts, "names": sessions.names, "material": times}


def _pair(prefix: str, columns: Columns, meta: Mapping[str, Any]) -> tuple[Material, Sessions]:
    texts = {int(template): text for template, text in meta["texts"].items()}
    of_material: Any = {name: columns[f"{prefix}material.{name}"] for name in _MATERIAL}
    of_sessions: Any = {name: columns[f"{prefix}sessions.{name}"] for name in _SESSIONS}
    of_material["streams"] = of_material["streams"].view(np.bool_)
    material = Material(**of_material, **meta["material"], templates=texts)
    return material, Sessions(names=meta["names"], **of_sessions, texts=texts)


def as_json(counts: Counts) -> str:
    """Counts on one line."""
    return json.dumps(asdict(counts))
