"""The options that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from shardctl.cli.output import Format
from shardctl.topology.load import load
from shardctl.topology.model import ShardMap


class OnError(StrEnum):
    """What a shard that fails means for those that wait."""

    STOP = "stop"
    CONTINUE = "continue"


class RowFormat(StrEnum):
    """How rows are written where they may be many: also with their types."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    MARKDOWN = "markdown"
    PARQUET = "parquet"
    ARROW = "arrow"


def _from_shard_map(names: Callable[[ShardMap], list[str]]) -> Callable[[typer.Context, str], list[str]]:
    """Make a completion that reads the shard map, and nothing else: no models, no database."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        config = context.params.get("config") if context is not None else None
        try:
            shard_map = load(config)
        except Exception:  # a completion has nobody to tell
            return []
        return [name for name in names(shard_map) if name.startswith(incomplete)]

    return complete


complete_shard = _from_shard_map(lambda shard_map: list(shard_map.shards))
complete_label = _from_shard_map(
    lambda shard_map: sorted(
        {f"{key}={value}" for shard in shard_map.shards.values() for key, value in shard.labels.items()}
    )
)
complete_class = _from_shard_map(lambda shard_map: list(shard_map.tables))

complete_canary = _from_shard_map(
    lambda shard_map: [
        *shard_map.shards,
        *sorted({f"{key}={value}" for shard in shard_map.shards.values() for key, value in shard.labels.items()}),
    ]
)

Config = Annotated[
    Path | None,
    typer.Option("-c", "--config", envvar="SHARDCTL_CONFIG", help="The shard map, in place of the nearest one."),
]
App = Annotated[
    str | None,
    typer.Option("--app", envvar="SHARDCTL_APP", help="An application's session factory, as module:attribute."),
]
Shards = Annotated[
    list[str] | None,
    typer.Option("--shard", metavar="NAME", help="This shard only; repeatable.", autocompletion=complete_shard),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="Shards with this label.", autocompletion=complete_label),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="NAME", help="Not this shard; repeatable.", autocompletion=complete_shard),
]
AllShards = Annotated[bool, typer.Option("--all-shards", help="Every shard.")]
Formats = Annotated[Format, typer.Option("--format", envvar="SHARDCTL_FORMAT", help="How to print the result.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Show what would be done, and do nothing.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, max=32, help="Shards at work at one time.")]
Isolate = Annotated[bool, typer.Option("--isolate", help="Run each shard in a process of its own.")]
Canary = Annotated[
    list[str] | None,
    typer.Option(
        "--canary",
        metavar="NAME|KEY=VALUE",
        help="These shards first, as a wave of their own; repeatable.",
        autocompletion=complete_canary,
    ),
]
WaveSize = Annotated[
    str | None, typer.Option("--wave-size", metavar="N|P%", help="Shards in one wave; without it all at once.")
]
OrderBy = Annotated[
    str,
    typer.Option("--order", metavar="map|name|size|label:KEY", help="Which shards come first; size: the smallest."),
]
Part = Annotated[
    str | None, typer.Option("--part", metavar="K/N", help="One of N equal parts, for a run split over machines.")
]
Pause = Annotated[float, typer.Option("--pause", metavar="SECONDS", min=0, help="Wait between two waves.")]
ConfirmEachWave = Annotated[bool, typer.Option("--confirm-each-wave", help="Ask again before each further wave.")]
OnErrors = Annotated[
    OnError, typer.Option("--on-error", help="stop: what runs is finished, and no further shard starts.")
]
MaxFailures = Annotated[
    int | None,
    typer.Option("--max-failures", metavar="N", min=1, help="Stop once N shards have failed, not at the first."),
]
LockWait = Annotated[
    float, typer.Option("--lock-wait", metavar="SECONDS", min=0, help="For another run that is at work on a shard.")
]
LockTimeout = Annotated[
    float,
    typer.Option(
        "--lock-timeout",
        metavar="SECONDS",
        min=0,
        help="For the application's locks, by each statement; 0: for ever.",
    ),
]
StatementTimeout = Annotated[
    float | None,
    typer.Option(
        "--statement-timeout", metavar="SECONDS", min=0.001, help="What one statement of a revision may take."
    ),
]
Retries = Annotated[
    int,
    typer.Option("--retries", metavar="N", min=0, help="Attempts more, of a revision that gave up waiting for a lock."),
]
Sql = Annotated[bool, typer.Option("--sql", help="Print the statements, and run nothing.")]
SqlDir = Annotated[
    Path | None, typer.Option("--sql-dir", metavar="DIR", help="Write the statements, a file for each shard.")
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0.001, max=86_400, help="For each shard, in place of timeout_s."),
]
StatementFile = Annotated[
    Path | None, typer.Option("-f", "--file", metavar="FILE", help="Read the statement from a file.")
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="The value of :NAME in the statement; repeatable."),
]
MaxRowsPulled = Annotated[
    int, typer.Option("--max-rows-pulled", min=0, help="Rows at most that are brought to one place.")
]
Everywhere = Annotated[
    bool, typer.Option("--everywhere", help="Ask all shards, also those that the sharding key rules out.")
]
Dialect = Annotated[
    str | None, typer.Option("--dialect", metavar="NAME", help="The statement's dialect, if it is not the shards'.")
]
MemoryLimit = Annotated[
    str, typer.Option("--memory-limit", metavar="SIZE", help="What gathering in DuckDB may use, such as 500MB.")
]
RowFormats = Annotated[
    RowFormat, typer.Option("--format", envvar="SHARDCTL_FORMAT", help="How to print; the last two need pyarrow.")
]
