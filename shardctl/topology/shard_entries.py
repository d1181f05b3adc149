"""`[shards.<id>]` -> Shard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardctl.topology.entries import Entries
from shardctl.topology.model import Shard, ShardState, place_of

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_KEYS = ("url", "schema", "attach", "labels", "state")


@dataclass(frozen=True, slots=True)
class ShardEntries(Entries):
    """Reads the shards of a shard map.

    Args:
        folder: What relative paths are relative to.
        environ: Where `${VAR}` comes from.
    """

    folder: Path
    environ: Mapping[str, str]

    def shard(self, shard_id: str, entry: Any) -> Shard:
        path = f"shards.{shard_id}"
        if not isinstance(entry, dict):
            self.fail(f"`{path}` is not a table", hint=f'write `[{path}]` and `url = "…"` below it')
        self.only(entry, _KEYS, path)
        url = self.text(entry, "url", path)
        if url is None:
            self.fail(f"`{path}` has no `url`")
        labels = self.table(entry, "labels", path)
        state = self.text(entry, "state", path) or "active"
        if state not in list(ShardState):
            self.choice(state, list(ShardState), f"{path}.state", "a state")
        attach = self.text(entry, "attach", path)
        schema = self.text(entry, "schema", path)
        url = self.expand(url, f"{path}.url")
        if not re.match(r"[\w+]+:", url):
            self.fail(
                f"`{path}.url` is not a database URL",
                hint="for example `sqlite:///asia.db` or `postgresql://app@db1/asia`",
            )
        if attach is not None and (schema is None or not url.startswith("sqlite")):
            self.fail(f"`{path}.attach` needs a SQLite `url`, and a `schema` to be attached as")
        if url.startswith("sqlite") and schema is not None and attach is None:
            self.fail(
                f"`{path}.schema` needs `attach`, the file that holds the schema", hint="SQLite has no other schemas"
            )
        return Shard(
            shard_id=shard_id,
            url=self.absolute_sqlite(url, f"{path}.url", may_be_memory=attach is not None),
            schema=schema,
            attach=self.folder / self.expand(attach, f"{path}.attach") if attach else None,
            labels={key: self.label(value, f"{path}.labels.{key}") for key, value in labels.items()},
            state=ShardState(state),
        )

    def label(self, value: Any, path: str) -> str:
        if not isinstance(value, str | int):
            self.fail(f"`{path}` must be text, not `{value!r}`")
        return str(value).lower() if isinstance(value, bool) else str(value)

    def absolute_sqlite(self, url: str, path: str, *, may_be_memory: bool) -> str:
        """Make a SQLite file's path relative to the shard map, not to the working directory."""
        match = re.fullmatch(r"(sqlite(?:\+\w+)?:)(?://(?:/(?P<file>[^?]*))?)?(?P<query>\?.*)?", url)
        if not url.startswith("sqlite"):
            return url
        if match is None:
            self.fail(f"`{path}` is not a SQLite URL", hint="write `sqlite:///file.db`, with three slashes")
        file = match["file"]
        file = file and file.removeprefix("file:")
        if not file or file == ":memory:" or "mode=memory" in (match["query"] or ""):
            if may_be_memory:
                return url
            self.fail(
                f"`{path}` is an in-memory database, which is empty in every run",
                hint="name a file: `sqlite:///asia.db`",
            )
        prefix = "file:" if "///file:" in url else ""
        return f"{match[1]}///{prefix}{self.folder / file}{match['query'] or ''}"

    def check_schemas(self, shards: Iterable[Shard]) -> None:
        """Refuse two shards in one place: each row would be found twice, and each migration run twice."""
        seen: dict[tuple[str | None, ...], str] = {}
        for shard in shards:
            place = place_of(shard)
            if place in seen:
                self.fail(
                    f"`shards.{seen[place]}` and `shards.{shard.shard_id}` are the same database"
                    + (f" and schema `{shard.schema}`" if shard.schema else ""),
                    hint="give each a `url` or a `schema` of its own",
                )
            seen[place] = shard.shard_id

    def expand(self, text: str, path: str) -> str:
        """Replace each `${VAR}` by its value in the environment."""

        def value(match: re.Match[str]) -> str:
            found = self.environ.get(match[1])
            if found is None:
                self.fail(f"`{path}` needs the environment variable `{match[1]}`, which is not set")
            return found

        return _VARIABLE.sub(value, text)
