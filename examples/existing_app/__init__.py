"""One application before and after it adopts shardctl's session; see README.md."""
