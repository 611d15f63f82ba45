"""Named columns of numbers as bytes: what detectors keep between processes. Nothing in them is ever executed.

``LCDT``, format of this encoding (u16), length of the header (u32), the header (JSON: name, format, and for each column
its name, type and shape), then the columns one after another, little-endian.
"""

import json
import math
import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"LCDT"
_FORMAT = 1
_HEADER = struct.Struct("<4sHI")
_TYPES = ("u1", "i4", "i8", "u8", "f4", "f8")
"""Types of numbers that columns may have."""


class StateError(ValueError):
    """Bytes that are not a saved detector, or one of another format than this code reads."""


def pack(name: str, version: int, columns: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Encode columns (any shape; flags become bytes) under a name and the number of their own format."""
    plain = {key: np.ascontiguousarray(_plain(column)) for key, column in columns.items()}
    listed = [[key, column.dtype.str[1:], list(column.shape)] for key, column in plain.items()]
    header = json.dumps({"name": name, "format": version, "columns": listed}).encode()
    body = b"".join(column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes() for column in plain.values())
    return _HEADER.pack(_MAGIC, _FORMAT, len(header)) + header + body


def unpack(data: bytes, name: str, version: int) -> dict[str, NDArray[np.generic]]:
    """Decode what ``pack`` wrote under this name and format; the columns may be written to.

    Raises:
        StateError: The bytes are damaged, or of another name or format.
    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise StateError("these bytes are no detector's state: they do not begin with LCDT")
    _, encoding, length = _HEADER.unpack_from(data)
    if encoding != _FORMAT:
        raise StateError(f"a detector's state in encoding {encoding}, this code reads {_FORMAT}")
    at = _HEADER.size + length
    try:
        header = json.loads(data[_HEADER.size : at])
        found = (header["name"], header["format"])
        listed = [(str(key), str(kind), [int(size) for size in shape]) for key, kind, shape in header["columns"]]
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"a detector's state cannot be read: {error}") from error
    if found != (name, version):
        raise StateError(f"state of detector {found[0]}, format {found[1]}; this code reads {name}, format {version}")
    columns: dict[str, NDArray[np.generic]] = {}
    for key, kind, shape in listed:
        if kind not in _TYPES or min(shape, default=0) < 0:
            raise StateError(f"a detector's state has a column {key} of type {kind} and shape {shape}")
        size = math.prod(shape)
        end = at + size * int(kind[1:])
        if end > len(data):
            raise StateError(f"a detector's state ends within its column {key}")
        columns[key] = np.frombuffer(data, dtype=f"<{kind}", count=size, offset=at).reshape(shape).copy()
        at = end
    if at != len(data):
        raise StateError(f"a detector's state has {len(data) - at} bytes more than its columns")
    return columns


def _plain(column: NDArray[np.generic]) -> NDArray[np.generic]:
    return column.view(np.uint8) if column.dtype == np.bool_ else column
