"""Statements that no shard can answer in parts: what is pulled from each shard, so that one place can answer them."""
