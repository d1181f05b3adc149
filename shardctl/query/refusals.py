"""The list of refusals: what `query` does not answer over several shards, why, and an example of each.

The README's section is made from this list, and a test runs every example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from shardctl.errors import QueryRefused

ONE_SHARD = "choose one shard with `--shard`"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason to refuse a statement."""

    what: str
    """What is refused, as a heading."""
    reason: str
    """The message; `{}` stands for a name."""
    example: str
    """A statement that is refused for it."""
    engine: str = "sqlite"
    """The engine of the example."""
    hint: str | None = ONE_SHARD

    def refuse(self, part: str | None = None, *names: str, facts: tuple[str, ...] = ()) -> NoReturn:
        """Raise QueryRefused, with the part of the statement that caused it."""
        found = [f"in: {' '.join(part.split())}"] if part else []
        raise QueryRefused(self.reason.format(*names), facts=[*found, *facts], hint=self.hint)


REFUSALS: Mapping[str, Refusal] = {
    "write": Refusal(
        "what writes, also inside a `SELECT`",
        "`query` only reads, and {}",
        "WITH gone AS (DELETE FROM weather_locations RETURNING id) SELECT id FROM gone",
        engine="postgresql",
        hint="run `shardctl query` with a SELECT, or a WITH … SELECT",
    ),
    "lock": Refusal(
        "row locks",
        "`query` only reads: it takes no row locks",
        "SELECT id FROM weather_locations FOR UPDATE",
        engine="postgresql",
        hint="leave out FOR UPDATE or FOR SHARE",
    ),
    "several": Refusal(
        "several statements at once",
        "there are {} statements, `query` takes one",
        "SELECT 1; SELECT 2",
        hint="run them one after another",
    ),
    "schema": Refusal(
        "a schema in front of a table's name",
        "a table with a schema's name in front cannot be gathered: the gathered one has none",
        "SELECT city, row_number() OVER (ORDER BY city) FROM main.weather_locations",
        hint="leave the schema out: each shard has its own",
    ),
    "modifier": Refusal(
        "`ONLY`, `TABLESAMPLE`, `INDEXED BY`, `PARTITION` and the like after a table's name",
        "a table with more than a name and an alias cannot be gathered",
        "SELECT id, row_number() OVER (ORDER BY id) FROM ONLY weather_locations",
        engine="postgresql",
        hint="leave it out",
    ),
    "variable": Refusal(
        "variables, and placeholders that `--param` gives no value",
        "variables and parameters have no value here",
        "SELECT city FROM weather_locations WHERE id = :id",
        hint="write the value, or give a `:name` one: `--param name=…`",
    ),
    "system column": Refusal(
        "a row's place: `rowid`, `ctid`, `oid`, `xmin`",
        "a row's place is another one on each shard",
        "SELECT rowid, city FROM weather_locations ORDER BY rowid",
        hint="name a column of the table",
    ),
    "catalogue": Refusal(
        "catalogues, and names of objects as values: `sqlite_master`, `pg_class`, `'orders'::regclass`",
        "each shard has a catalogue of its own",
        "SELECT 'weather_locations'::regclass, row_number() OVER () FROM weather_locations",
        engine="postgresql",
    ),
    "view": Refusal(
        "views, virtual and foreign tables",
        "`{}` is a {}: its rows are not only its own",
        "SELECT count(*) FROM cities",
        hint="query the tables below it",
    ),
    "function": Refusal(
        "functions of the application's own, and those that answer for a connection or a server: `nextval`, "
        "`current_user`, `pg_relation_size`, `changes`",
        "`{}` is a function that each shard answers for itself",
        "SELECT changes(), max(id) OVER () FROM weather_locations",
    ),
    "type": Refusal(
        "columns of enums, domains, composite types and extensions' types where rows are gathered",
        "`{}` is of {}, which the place where rows are gathered does not have",
        "SELECT mood, row_number() OVER (ORDER BY id) FROM people",
        engine="postgresql",
        hint="leave the column out, or choose one shard with `--shard`",
    ),
    "placement": Refusal(
        "several tables of which one is in no rule of the shard map",
        "`{}` has no placement: each shard may hold a part of its rows, or a copy of all",
        "SELECT w.city, r.temperature FROM weather_locations w JOIN readings r ON r.temperature > w.id",
        hint="add a `[tables.…]` with a `strategy` for it to the shard map",
    ),
    "keys": Refusal(
        "joins and subqueries across shards that number their rows each by itself, where these numbers are compared",
        "`{}` has the value {} on {} shards: rows of one shard would meet those of another",
        "SELECT city, rank() OVER (ORDER BY rain) FROM weather_locations l JOIN reports r ON r.location_id = l.id",
        hint="choose one shard with `--shard`; joins of rows that live together, without more, are merged",
    ),
    "dependent": Refusal(
        "on PostgreSQL, columns beside a grouped primary key where rows are gathered, unless it has the sharding key",
        "a gathered table has no primary key that others of its columns depend on: {}",
        "SELECT id, rain, rank() OVER (ORDER BY count(*)) FROM reports GROUP BY id",
        engine="postgresql",
        hint="group by these columns too",
    ),
    "shapes": Refusal(
        "tables whose columns, types or collations differ between the shards",
        "`{}` is not the same table on `{}` and `{}`",
        "SELECT id, row_number() OVER (ORDER BY id) FROM uneven",
        hint="migrate the shards to one revision",
    ),
    "settings": Refusal(
        "shards whose versions or settings differ from those of the place where rows are gathered",
        "`{}` differs between `{}` and the place where rows are gathered",
        "SELECT id, stddev(height) OVER (ORDER BY id) FROM weather_locations",
        engine="postgresql",
        hint="let `gather` name a database like the shards",
    ),
    "place": Refusal(
        "on PostgreSQL and MySQL without a `gather` in the shard map: what is neither merged nor on DuckDB's list",
        "{}",
        "SELECT id, stddev(height) OVER (ORDER BY id) FROM weather_locations",
        engine="postgresql",
        hint='name a database to gather rows in: `gather = "{}://…"` in the shard map',
    ),
    "twice": Refusal(
        "on MySQL, not on MariaDB: a statement that is gathered and names a table twice",
        "MySQL reads a temporary table once in a statement: {}",
        "SELECT a.id FROM weather_locations a, weather_locations b WHERE a.id > b.id",
        engine="mysql",
    ),
    "rounding": Refusal(
        "on MySQL, an integer column that is to be equal to a fraction, where rows are gathered",
        "`{}` is an integer: an index finds what a fraction is rounded to, and without one nothing is found",
        "SELECT a.id FROM weather_locations a, weather_locations b WHERE a.id > b.id AND a.height = 4.5",
        engine="mysql",
        hint="write an integer, or compare with `<` and `>`",
    ),
    "dialect": Refusal(
        "with `--dialect`, what may mean something else to the engine: division, `LIKE`, casts, most functions",
        "this is not known to mean the same in `{}` and in {}",
        "SELECT id / 2 FROM weather_locations",
        hint="write it as the shards' engine does, and leave `--dialect` out",
    ),
    "engines": Refusal(
        "shards of several engines: all but rows as they come, and counts",
        "{} compare, order and calculate differently: together they give unsorted rows and counts only",
        "SELECT word FROM words ORDER BY word",
        engine="mixed",
        hint="choose shards of one engine",
    ),
    "shard column": Refusal(
        "`--by-shard` where rows of several shards meet before the answer is computed",
        "the rows of this answer are of no single shard",
        "SELECT id, row_number() OVER (ORDER BY id) FROM weather_locations",
        hint="leave `--by-shard` out",
    ),
    "rows": Refusal(
        "answers that would need more rows than `--max-rows-pulled` (1,000,000)",
        "more than {} rows would have to be pulled for this answer",
        "SELECT id, row_number() OVER (ORDER BY id) FROM weather_locations",
        hint="narrow it with WHERE, or allow more with `--max-rows-pulled`",
    ),
}
