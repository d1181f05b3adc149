"""A server that takes connections and says nothing."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

import shardctl
from shardctl.errors import ShardUnreachable


@pytest.mark.parametrize("engine", ["mysql", "postgresql"])
def test_it_is_given_up(engine: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file = tmp_path / "shardctl.toml"
        url = f"{engine}://app@127.0.0.1:{silent.getsockname()[1]}/x"
        file.write_text(f'timeout_s = 1\n[shards.asia]\nurl = "{url}"\n', encoding="utf-8")
        with shardctl.open(file) as fleet:
            started = time.monotonic()

            with pytest.raises(ShardUnreachable, match="cannot connect"), fleet.shard("asia").connect():
                pass

        assert time.monotonic() - started < 8
