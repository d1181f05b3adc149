"""The weather example: one shard for each continent."""
