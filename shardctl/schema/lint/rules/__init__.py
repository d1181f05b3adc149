"""All rules, by what they are about; each module adds its own to `RULES`."""

from shardctl.schema.lint.rule import RULES, Hit, Rule, Severity
from shardctl.schema.lint.rules import data, fleet, mysql, postgresql, running, sqlite

__all__ = ["RULES", "Hit", "Rule", "Severity", "data", "fleet", "mysql", "postgresql", "running", "sqlite"]
