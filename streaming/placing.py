"""Keys that Flink spreads evenly over however many instances an operator has.

    placed("logs.pay/", 3)          # the key of partition 3: 'logs.pay/3', or with a salt behind it: 'logs.pay/3~11'
    number_of("3~11")               # 3

Flink sends a key to an instance by its hash. Of four keys on two instances that puts three or four on one of them more
often than not (10 of 16 times), and a job is as slow as its fullest instance. So keys that belong to one stem get a
salt, the smallest that puts each into its slice of Flink's key groups: consecutive numbers take turns between halves,
quarters and eighths, which instances are made of. Where a stem begins is up to its own hash: services are spread, too.
``deploy/java/KeyPlace.java`` makes the same keys.
"""

from functools import lru_cache

GROUPS = 128
"""Key groups of a job of up to 85 instances (Flink: ``KeyGroupRangeAssignment.computeDefaultMaxParallelism``)."""
SLICES = 8
_WIDTH = GROUPS // SLICES
_TURNS = (0, 4, 2, 6, 1, 5, 3, 7)  # numbers from 0 in binary, read backwards
_SALT = "~"  # in no name of a topic or service
_ROW = 62  # what a row of one field adds to that field's hash
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=100_000)
def placed(stem: str, number: int) -> str:
    """The key of a number under a stem.

    >>> [key_group(placed("logs.pay/", partition)) * 2 // GROUPS for partition in range(4)].count(0)
    2
    """
    slice_ = (key_group(stem) // _WIDTH + _TURNS[number % SLICES]) % SLICES
    key, salt = f"{stem}{number}", 0
    while key_group(key) // _WIDTH != slice_:
        salt += 1
        key = f"{stem}{number}{_SALT}{salt}"
    return key


def number_of(text: str) -> int:
    """The number at the end of a key, where the stem is taken off.

    >>> number_of("3"), number_of("3~17")
    (3, 3)
    """
    return int(text.partition(_SALT)[0])


def key_group(key: str) -> int:
    """The key group that Flink gives a row of this one field, where there are 128 (``MathUtils.murmurHash``)."""
    data = key.encode("utf-16-le")
    code = 0
    for at in range(0, len(data), 2):
        code = (31 * code + data[at] + 256 * data[at + 1]) & _MASK
    code = ((code + _ROW) * 0xCC9E2D51) & _MASK
    code = (_rotated(code, 15) * 0x1B873593) & _MASK
    code = (_rotated(code, 13) * 5 + 0xE6546B64) & _MASK
    code ^= 4
    code = ((code ^ (code >> 16)) * 0x85EBCA6B) & _MASK
    code = ((code ^ (code >> 13)) * 0xC2B2AE35) & _MASK
    code ^= code >> 16
    signed = code - (1 << 32) if code >> 31 else code
    return (0 if code == 1 << 31 else abs(signed)) % GROUPS


def _rotated(code: int, bits: int) -> int:
    return ((code << bits) | (code >> (32 - bits))) & _MASK
