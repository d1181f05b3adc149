"""`shardctl migrate heads`: the newest revisions of the project."""

from __future__ import annotations

from pathlib import Path

from shardctl.cli import options, output
from shardctl.cli.output import Format
from shardctl.cli.project import open_fleet


def heads(
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """List the newest revisions: one, or several where branches are open.

    They are read from the migrations' files; no shard is asked.

    Examples: shardctl migrate heads; shardctl migrate heads --format json
    """
    fleet = open_fleet(config, app)
    from shardctl.schema.lineage import read_lineage
    from shardctl.schema.revisions import load_scripts

    with fleet:
        scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    rows = [
        [link.revision, link.message or None, ", ".join(link.after) or None, Path(link.file).name]
        for link in read_lineage(scripts)
        if link.is_head
    ]
    output.emit(["revision", "message", "after", "file"], rows, format_)
