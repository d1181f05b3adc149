"""What a user would otherwise do, and shardctl, in one run: `make benchmarks`."""
