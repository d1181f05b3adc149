"""New revision files, as `alembic revision` writes them: by the project's settings, template and env.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alembic.autogenerate import RevisionContext
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError, asbool

from shardctl.errors import ConfigError, Refused
from shardctl.fleet import Fleet, LiveShard
from shardctl.schema.autogenerate import Options, in_env_py, without_tables
from shardctl.schema.comparators import set_default_comparison, with_comparators
from shardctl.schema.comparison import Meant
from shardctl.schema.drift import compare_with_most, grouped
from shardctl.schema.fingerprint import Fingerprint, own_tables
from shardctl.schema.revisions import Scripts


@dataclass(frozen=True, slots=True)
class RevisionRequest:
    """What a new revision is to be, in Alembic's words."""

    message: str | None = None
    autogenerate: bool = False
    head: str = "head"
    splice: bool = False
    branch_label: str | None = None
    depends_on: tuple[str, ...] = ()
    rev_id: str | None = None


def needs_shard(scripts: Scripts, request: RevisionRequest) -> bool:
    """Say whether env.py has to run for a revision: to compare, or because the settings want it."""
    config = scripts.settings.new_config()
    read = getattr(config, "get_alembic_option", config.get_main_option)  # Alembic 1.16 and later read pyproject.toml
    return request.autogenerate or bool(asbool(read("revision_environment")))


def choose_shard(fleet: Fleet, fingerprints: Mapping[str, Fingerprint], scripts: Scripts) -> LiveShard:
    """Return the shard that the models are compared with: any, for all have to be alike.

    Raises:
        Refused: Shards are not at the head, or have different schemas; the facts name the groups.
    """
    behind: dict[str, list[str]] = {}
    for shard_id, found in fingerprints.items():
        if found.revisions != scripts.heads:
            behind.setdefault(", ".join(found.revisions) or "no revision", []).append(shard_id)
    if behind:
        raise Refused(
            "the shards are not all at the head",
            facts=[f"{', '.join(shard_ids)}: at {revision}" for revision, shard_ids in behind.items()],
            hint="`shardctl migrate --all-shards` first, or name one that is by `--shard`",
        )
    meant = Meant(fleet, [fleet.shard(shard_id) for shard_id in fingerprints])
    groups = []
    for engine in {found.engine: None for found in fingerprints.values()}:
        alike = {shard_id: found for shard_id, found in fingerprints.items() if found.engine == engine}
        groups += grouped(compare_with_most(alike, meant.has))
    if groups:
        raise Refused(
            "the shards have different schemas",
            facts=[f"{', '.join(group.shard_ids)}: {group.finding.object} {group.finding.text}" for group in groups],
            hint="`shardctl drift --sql` says what would mend them; or name one that is right by `--shard`",
        )
    return fleet.shard(next(iter(fingerprints)))


def write_revision(fleet: Fleet, scripts: Scripts, request: RevisionRequest, live: LiveShard | None) -> list[Path]:
    """Write the file of a new revision, and return its path; none where autogenerate found no change.

    Args:
        fleet: The fleet.
        scripts: The project's revisions.
        request: What it is to be.
        live: The shard that env.py runs on; None where it need not.

    Raises:
        ConfigError: Alembic refuses, as for a revision that there is already.
        ShardError: env.py failed.
    """
    if request.rev_id in scripts.known:  # Alembic would write a file that breaks all others
        raise ConfigError(f"{scripts.folder.name}: there is a revision `{request.rev_id}` already")
    arguments: dict[str, Any] = asdict(request) | {"sql": False, "version_path": None}
    arguments["depends_on"] = list(request.depends_on) or None
    try:
        revision = RevisionContext(scripts.settings.new_config(), scripts.directory, arguments)
        if live is not None:
            _run_env(fleet, scripts, request, live, revision)
            if request.autogenerate and _is_empty(revision):
                return []
        return [Path(script.path) for script in revision.generate_scripts() if script is not None]
    except CommandError as error:
        if request.head == "head" and len(scripts.heads) > 1:
            heads = ", ".join(f"`{head}`" for head in scripts.heads)
            raise ConfigError(
                f"{scripts.folder.name}: {len(scripts.heads)} heads: {heads}",
                hint=f"`--head {scripts.heads[0]}` goes on from one of them; `--head heads` makes them one",
            ) from error
        raise ConfigError(f"{scripts.folder.name}: {str(error).splitlines()[0].rstrip('.')}") from error


def _run_env(
    fleet: Fleet, scripts: Scripts, request: RevisionRequest, live: LiveShard, revision: RevisionContext
) -> None:
    hidden = own_tables(fleet, live.shard_id)

    def adapt(options: Options) -> Options:
        if options.get("target_metadata") is None and request.autogenerate:
            options = {**options, "target_metadata": list(Meant(fleet, ()).metadatas) or None}
        return with_comparators(without_tables(options, hidden))

    def run(revisions: tuple[str, ...], context: MigrationContext) -> None:
        set_default_comparison(context)
        if request.autogenerate:
            revision.run_autogenerate(revisions, context)
        else:
            revision.run_no_autogenerate(revisions, context)

    with live.connect() as connection:
        in_env_py(
            live,
            scripts,
            connection,
            run,
            adapt,
            template_args=revision.template_args,
            revision_context=revision,
        )


def _is_empty(revision: RevisionContext) -> bool:
    containers: Iterable[Any] = (
        operations for script in revision.generated_revisions for operations in script.upgrade_ops_list
    )
    return all(operations.is_empty() for operations in containers)
