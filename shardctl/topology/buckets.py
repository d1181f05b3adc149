"""The virtual buckets of the hash strategy: a key -> one of 1024 buckets, and who owns which."""

from __future__ import annotations

import enum
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shardctl.errors import NoPlacement

Key = tuple[Any, ...]
"""The values of a sharding key's columns."""

BUCKETS = 1024


def hash_bytes(key: Key) -> bytes:
    """Return the bytes of a key that are hashed: the specification is in `bucket_of`.

    Raises:
        NoPlacement: A value's type is not one that every database spells the same way.
    """
    if len(key) == 1:
        value = key[0]
        return str(value).encode("ascii") if type(value) is int else _hash_part(value)  # most keys are integers
    parts = [_hash_part(value) for value in key]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _hash_part(value: Any) -> bytes:
    match value:
        case bool():
            pass
        case int():
            return str(int(value)).encode("ascii")
        case enum.Enum():
            return value.name.encode()
        case str():
            return value.encode()
        case uuid.UUID():
            return str(value).encode("ascii")
        case bytes() | bytearray() | memoryview():
            return bytes(value)
    raise NoPlacement(
        f"a value of type {type(value).__name__} cannot be hashed: {value!r}",
        hint="hash an integer, a string, a UUID or bytes",
    )


def bucket_of(key: Key) -> int:
    """Return the virtual bucket (0 to 1023) of a key.

    Version 1: the key's bytes are, for an integer, its decimal digits; for a string, its UTF-8; for a UUID, its 36
    lower-case characters; for bytes, themselves; for a composite key, each part with its length before it as four
    bytes, most significant first. The bucket is the first ten bits of their SHA-256, which every database can compute:
    in PostgreSQL `(get_byte(sha256(convert_to(k::text, 'UTF8')), 0) << 2) | (get_byte(..., 1) >> 6)`, in MariaDB
    `conv(left(sha2(convert(k using utf8mb4), 256), 4), 16, 10) >> 6`.
    """
    digest = hashlib.sha256(hash_bytes(key)).digest()
    return digest[0] << 2 | digest[1] >> 6


def spread_buckets(shard_ids: Sequence[str]) -> tuple[str, ...]:
    """Give 1024 buckets to shards evenly, so that appending a shard moves only its own share.

    Each shard after the first takes buckets from the shard that has most at that moment (the earliest one in the list
    if several do), the highest-numbered bucket first, until it has 1024 // n.
    """
    owned: list[list[int]] = [list(range(BUCKETS))]
    for count in range(2, len(shard_ids) + 1):
        taken: list[int] = []
        while len(taken) < BUCKETS // count:
            taken.append(max(owned, key=len).pop())
        owned.append(sorted(taken))
    by_bucket = {bucket: shard_ids[i] for i, buckets in enumerate(owned) for bucket in buckets}
    return tuple(by_bucket[bucket] for bucket in range(BUCKETS))


def parse_buckets(ranges: Mapping[str, str]) -> tuple[str, ...]:
    """Read shard -> `"0-255, 300"` into the shard of each of the 1024 buckets.

    Raises:
        ValueError: A bucket is out of range, given twice or not given; the message says which.
    """
    owner: dict[int, str] = {}
    for shard_id, text in ranges.items():
        for bucket in _parse_numbers(text):
            if bucket in owner:
                raise ValueError(f"bucket {bucket} is given to both `{owner[bucket]}` and `{shard_id}`")
            owner[bucket] = shard_id
    missing = [bucket for bucket in range(BUCKETS) if bucket not in owner]
    if missing:
        raise ValueError(f"{len(missing)} of {BUCKETS} buckets have no shard, the first is {missing[0]}")
    return tuple(owner[bucket] for bucket in range(BUCKETS))


def _parse_numbers(text: str) -> Iterable[int]:
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        try:
            first, last = int(low), int(high or low)
        except ValueError:
            raise ValueError(f"`{part.strip()}` is neither a bucket nor a range of buckets, as `0-255`") from None
        if not 0 <= first <= last < BUCKETS:
            raise ValueError(f"`{part.strip()}` is not within 0 to {BUCKETS - 1}")
        yield from range(first, last + 1)
