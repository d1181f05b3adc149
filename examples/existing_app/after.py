"""The same application with the shard map in place of its choosers: the rest of it stays as it was.

New objects go where `shardctl.toml` places them, and a statement with `continent == "Asia"` asks one shard.
"""

from __future__ import annotations

from pathlib import Path

import shardctl
from examples.weather.add_rows import add_rows

fleet = shardctl.open(Path(__file__).parent / "shardctl.toml")
Session = fleet.sessionmaker()

if __name__ == "__main__":
    add_rows(Session)
