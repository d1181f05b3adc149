"""The values of a shard map's tables, each with an error that names the file and the key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from shardctl.errors import ConfigError, UnknownName
from shardctl.topology.model import hide_passwords


@dataclass(frozen=True, slots=True)
class Entries:
    """Reads values out of a shard map.

    Args:
        name: The file's name, for messages.
    """

    name: str

    def fail(self, message: str, *, hint: str | None = None) -> NoReturn:
        raise ConfigError(f"{self.name}: {hide_passwords(message)}", hint=hint)

    def only(self, entry: Mapping[str, Any], known: Iterable[str], path: str) -> None:
        for key in entry:
            if key not in known:
                dotted = f"{path}.{key}" if path else key
                raise UnknownName(f"{self.name}: unknown key `{dotted}`", name=key, known=known)

    def choice(self, value: str, known: Iterable[str], path: str, what: str) -> NoReturn:
        raise UnknownName(f"{self.name}: `{path}` is `{value}`, not {what}", name=value, known=known)

    def text(self, entry: Mapping[str, Any], key: str, path: str) -> str | None:
        value = entry.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            self.fail(f"`{path}.{key}` must be text, not `{value!r}`".replace("`.", "`"))
        return value

    def table(self, entry: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
        value = entry.get(key, {})
        if not isinstance(value, dict):
            self.fail(f"`{path}.{key}` must be a table, not `{value!r}`".replace("`.", "`"))
        return value

    def number(self, entry: Mapping[str, Any], key: str, default: float, *, whole: bool) -> float:
        value = entry.get(key, default)
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
            self.fail(f"`{key}` must be a {'whole ' if whole else ''}number above 0, not `{value!r}`")
        return value
