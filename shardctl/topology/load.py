"""`shardctl.toml`, or `[tool.shardctl]` in `pyproject.toml` -> ShardMap.

Every error names the file, the key and, for a misspelling, the nearest right one.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardctl.errors import ConfigError
from shardctl.topology.entries import Entries
from shardctl.topology.model import DEFAULT_CONNECTIONS_PER_SERVER, DEFAULT_TIMEOUT_S, ShardMap
from shardctl.topology.shard_entries import ShardEntries
from shardctl.topology.table_entries import TableEntries

FILE_NAME = "shardctl.toml"

_TOOL_TABLE = re.compile(r"^\s*\[\s*tool\.shardctl\s*[].]", re.MULTILINE)
_TOP_KEYS = (
    "models",
    "app",
    "migrations",
    "gather",
    "connections_per_server",
    "timeout_s",
    "shards",
    "tables",
    "queries",
)


def find_file(start: Path) -> Path | None:
    """Return the nearest `shardctl.toml`, or `pyproject.toml` with `[tool.shardctl]`, in `start` or above it."""
    for folder in (start, *start.parents):
        candidate = folder / FILE_NAME
        if candidate.is_file():
            return candidate
        pyproject = folder / "pyproject.toml"
        if pyproject.is_file() and _TOOL_TABLE.search(pyproject.read_text(encoding="utf-8", errors="replace")):
            return pyproject
    return None


def load(
    path: Path | str | None = None, *, app: str | None = None, environ: Mapping[str, str] | None = None
) -> ShardMap:
    """Read a shard map.

    Args:
        path: The file; None looks for one in the working directory and above.
        app: An application's session factory, in place of the shards that the file names.
        environ: Where `${VAR}` in a URL comes from; None is the process's environment.

    Raises:
        ConfigError: There is no file, it cannot be read, or a key or value in it is wrong.
    """
    file = Path(path) if path is not None else find_file(Path.cwd())
    if file is None:
        raise ConfigError(
            f"no `{FILE_NAME}` here or in a folder above",
            hint="write one, pass `-c FILE`, or point `--app module:attribute` at a sharded sessionmaker",
        )
    reader = _ShardMapEntries(file.name, file.absolute().parent, os.environ if environ is None else environ)
    values = reader.parse(file)
    if app is not None:
        values = {key: value for key, value in values.items() if key not in ("shards", "tables")} | {"app": app}
    return reader.shard_map(values, file.absolute())


@dataclass(frozen=True, slots=True)
class _ShardMapEntries(Entries):
    folder: Path
    environ: Mapping[str, str]

    def parse(self, file: Path) -> dict[str, Any]:
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"there is no file `{file}`") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file.name}: not UTF-8 text: {error.reason} at byte {error.start}") from None
        except OSError as error:
            raise ConfigError(f"cannot read `{file}`: {error.strerror}") from None
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{file.name}: not valid TOML: {error}") from None
        if file.name == "pyproject.toml":
            values = self.table(self.table(values, "tool", ""), "shardctl", "tool")
            if not values:
                self.fail("no `[tool.shardctl]`", hint="a shard map is written there, or in a `shardctl.toml`")
        if not values:
            self.fail(
                "the file is empty", hint="a shard map needs `models` and at least one `[shards.<id>]` with a `url`"
            )
        return values

    def shard_map(self, values: dict[str, Any], source: Path) -> ShardMap:
        self.only(values, _TOP_KEYS, "")
        app = self.text(values, "app", "")
        shard_tables = self.table(values, "shards", "")
        if not shard_tables and app is None:
            self.fail("no shards", hint="add a table `[shards.<id>]` with a `url` for each shard, or `app`")
        if shard_tables and app is not None:
            self.fail(
                "`app` and `[shards]` exclude each other", hint="an application's session factory has its own shards"
            )
        if app is not None and "tables" in values:
            self.fail("`app` and `[tables]` exclude each other", hint="an application's own choosers place its rows")
        shard_entries = ShardEntries(self.name, self.folder, self.environ)
        shards = {shard_id: shard_entries.shard(shard_id, entry) for shard_id, entry in shard_tables.items()}
        shard_entries.check_schemas(shards.values())
        table_entries = TableEntries(self.name, tuple(shards))
        migrations = self.text(values, "migrations", "")
        gather = self.text(values, "gather", "")
        return ShardMap(
            shards=shards,
            tables={name: table_entries.rule(name, entry) for name, entry in self.table(values, "tables", "").items()},
            models=self.models(values),
            app=app,
            migrations=self.folder / migrations if migrations else None,
            gather=self.gather(shard_entries.expand(gather, "gather")) if gather else None,
            connections_per_server=int(
                self.number(values, "connections_per_server", DEFAULT_CONNECTIONS_PER_SERVER, whole=True)
            ),
            timeout_s=self.number(values, "timeout_s", DEFAULT_TIMEOUT_S, whole=False),
            queries=self.queries(self.table(values, "queries", "")),
            source=source,
        )

    def gather(self, url: str) -> str:
        if not re.match(r"(postgres|mysql|mariadb)\w*(\+\w+)?://", url):
            self.fail(
                "`gather` is not the URL of a PostgreSQL or MySQL database",
                hint="rows of SQLite shards are gathered in memory, and need none",
            )
        return url

    def queries(self, entries: dict[str, Any]) -> dict[str, str]:
        for name in entries:
            if not re.fullmatch(r"[\w-]+", name):
                self.fail(f"`queries.{name}`: a name is of letters, digits, `_` and `-`")
        return {name: str(self.text(entries, name, "queries")).strip() for name in entries}

    def models(self, values: dict[str, Any]) -> tuple[str, ...]:
        models = values.get("models", [])
        names = (models,) if isinstance(models, str) else tuple(models) if isinstance(models, list) else (models,)
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(r"[\w.]+:[\w.]+", name):
                self.fail(
                    f"`models` is `{name}`, not `module:attribute`", hint='for example `models = "weather.models:Base"`'
                )
        return names
