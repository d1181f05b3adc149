"""Alembic's environment: on the shard that shardctl is at work on, or that `-x shard=NAME` names."""

from examples.weather.models import Base
from shardctl.schema.environment import run_migrations

run_migrations(target_metadata=Base.metadata)
