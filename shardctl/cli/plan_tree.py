"""A statement's plan as a tree for people, and as JSON for machines."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardctl.cli import output
from shardctl.cli.diagnostics import listed
from shardctl.cli.options import RowFormat
from shardctl.cli.output import Format
from shardctl.cli.values import printable, to_json
from shardctl.errors import ConfigError

if TYPE_CHECKING:
    from rich.tree import Tree

    from shardctl.query.asked import Asked
    from shardctl.query.explain import Explained, Look, Looks, Sent

_ASCII = str.maketrans({"├": "+", "└": "`", "│": "|", "─": "-"})


@dataclass(frozen=True, slots=True)
class Ran:
    """What running a statement took."""

    rows: int
    seconds: float
    asked: Asked


@dataclass(frozen=True, slots=True)
class Branch:
    """Text, perhaps of several lines, and what belongs below it."""

    text: str
    below: list[Branch] = field(default_factory=list)


def emit(found: Explained, looks: Looks, ran: Ran | None, format_: RowFormat | Format) -> None:
    """Print a plan: a tree, an object of JSON, or a row for each statement of a shard.

    Args:
        found: The plan.
        looks: What the shards' engines say of it.
        ran: What running it took, if it ran.
        format_: How.

    Raises:
        ConfigError: A plan is not printed in this format.
    """
    if format_ in (RowFormat.PARQUET, RowFormat.ARROW):
        raise ConfigError(f"a plan is not written as `{format_.value}`", hint="pass `--format json`")
    if format_.value == Format.TABLE.value:
        output.write_drawn(lambda stream, is_plain: draw(branch(found, looks, ran), stream, is_plain=is_plain))
    elif format_.value == Format.JSON.value:
        output.write_object(_document(found, looks, ran))
    else:
        rows = [[shard_id, sent.sql] for sent in found.sent for shard_id in sent.shard_ids]
        output.emit(["shard", "statement"], rows, Format(format_.value))


def branch(found: Explained, looks: Looks, ran: Ran | None) -> Branch:
    """Return the tree of a plan."""
    to = "from" if found.route == "gather" else "to"
    shards = f"{len(found.shard_ids)} of {found.candidates} shard{'' if found.candidates == 1 else 's'}"
    root = Branch(f"{found.route} {to} {shards}: {found.why}")
    if found.reason != found.why:
        root.below.append(Branch(found.reason))
    root.below.extend(_of_sent(number, sent, looks, ran) for number, sent in enumerate(found.sent))
    if len(found.merged) == 1:
        root.below.append(Branch(f"merged {found.merged_where}: {found.merged[0]}"))
    elif found.merged:
        root.below.append(Branch(f"merged {found.merged_where}", [Branch(step) for step in found.merged]))
    if found.gathered:
        root.below.append(Branch(f"gathered {found.gathered_where}, where this runs", [Branch(found.gathered)]))
    if ran is not None:
        root.below.append(_answer(ran, found.shard_ids))
    return root


def _of_sent(number: int, sent: Sent, looks: Looks, ran: Ran | None) -> Branch:
    names = listed(sent.shard_ids)
    verb = "is" if len(sent.shard_ids) == 1 else "are"
    made = Branch(f"{sent.table}: pulled from {names}" if sent.table else f"{names} {verb} sent")
    made.below.append(Branch(sent.sql))
    if sent.parameters:
        values = ", ".join(f"{name} = {value!r}" for name, value in sent.parameters.items())
        made.below.append(Branch(f"with {values}"))
    made.below.extend(Branch(remark) for remark in sent.remarks)
    own = {shard_id: looks[number, shard_id] for shard_id in sent.shard_ids if (number, shard_id) in looks}
    made.below.extend(_estimates(own))
    if ran is not None:
        rows = {shard_id: ran.asked.rows.get((shard_id, sent.table), 0) for shard_id in sent.shard_ids}
        made.below.append(_numbers("rows that came", rows))
    made.below.extend(_plans(own))
    return made


def _estimates(looks: Mapping[str, Look]) -> Iterator[Branch]:
    """Yield what the engines expect; nothing of those that do not say."""
    returned = {shard_id: look.returned for shard_id, look in looks.items() if look.returned is not None}
    if returned:
        yield _numbers("rows expected, an estimate of the engine's", returned)
    read = {shard_id: look.read for shard_id, look in looks.items() if look.read is not None}
    if read:
        yield _numbers("rows to read, an estimate of the engine's", read)
    for shard_id, look in looks.items():
        if look.problem is not None:
            yield Branch(f"no estimate of {shard_id}: {look.problem}")


def _numbers(what: str, values: Mapping[str, int], show: Callable[[int], str] = "{:,}".format) -> Branch:
    each = listed([f"{shard_id} {show(value)}" for shard_id, value in values.items()])
    total = f"; together {show(sum(values.values()))}" if len(values) > 1 else ""
    return Branch(f"{what}: {each}{total}")


def _plans(looks: Mapping[str, Look]) -> Iterator[Branch]:
    """Yield the engines' own plans; shards with the same one together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for shard_id, look in looks.items():
        if look.plan:
            alike.setdefault(look.plan, []).append(shard_id)
    for lines, shard_ids in alike.items():
        yield Branch(f"plan of {listed(shard_ids)}", [Branch("\n".join(lines))])


def _answer(ran: Ran, shard_ids: Sequence[str]) -> Branch:
    made = Branch(f"answered with {ran.rows:,} row{'' if ran.rows == 1 else 's'} after {ran.seconds:.3f} s")
    seconds = [f"{shard_id} {ran.asked.seconds.get(shard_id, 0.0):.3f}" for shard_id in shard_ids]
    made.below.append(Branch(f"seconds: {listed(seconds)}"))
    known = {shard_id: ran.asked.received.get(shard_id) for shard_id in shard_ids}
    received = {shard_id: size for shard_id, size in known.items() if size is not None}
    if received:
        made.below.append(_numbers("bytes received", received))
    return made


def draw(root: Branch, stream: Any, *, is_plain: bool) -> str:
    """Draw a tree; on a terminal, lines are broken at its width."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    def text(branch: Branch) -> Text:
        return Text("\n".join(map(printable, branch.text.splitlines())))

    def fill(tree: Tree, branch: Branch) -> None:
        for child in branch.below:
            fill(tree.add(text(child)), child)

    drawn = Tree(text(root), guide_style="dim", highlight=False)
    fill(drawn, root)
    buffer = io.StringIO()
    if stream.isatty():
        terminal = Console(file=stream)
        console = Console(
            file=buffer,
            force_terminal=True,
            width=terminal.width,
            color_system="auto" if terminal.color_system else None,
        )
    else:
        console = Console(file=buffer, width=_longest(root) + 1, color_system=None)
    console.print(drawn, soft_wrap=not stream.isatty())
    whole = "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())
    return whole.translate(_ASCII) if is_plain else whole


def _longest(branch: Branch, depth: int = 0) -> int:
    """Return a width that nothing of a tree exceeds."""
    own = max((2 * len(line) for line in branch.text.splitlines()), default=0) + 4 * depth
    return max([own, *(_longest(child, depth + 1) for child in branch.below)])


def _document(found: Explained, looks: Looks, ran: Ran | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "route": found.route,
        "why": found.why,
        "reason": found.reason,
        "candidates": found.candidates,
        "shards": [_of_shard(shard_id, found, looks, ran) for shard_id in found.shard_ids],
        "merge": {"where": found.merged_where, "steps": list(found.merged)} if found.merged else None,
        "gather": {"where": found.gathered_where, "statement": found.gathered} if found.gathered else None,
    }
    if ran is not None:
        document["answer"] = {"rows": ran.rows, "seconds": round(ran.seconds, 3)}
    return document


def _of_shard(shard_id: str, found: Explained, looks: Looks, ran: Ran | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"shard": shard_id, "statements": []}
    for number, sent in enumerate(found.sent):
        if shard_id not in sent.shard_ids:
            continue
        statement: dict[str, Any] = {"statement": sent.sql, "table": sent.table or None}
        if sent.parameters:
            statement["parameters"] = to_json(dict(sent.parameters))
        statement["remarks"] = list(sent.remarks)
        look = looks.get((number, shard_id))
        statement |= {
            "estimated_rows": None if look is None else look.returned,
            "estimated_rows_read": None if look is None else look.read,
            "problem": None if look is None else look.problem,
        }
        if look is not None and look.plan:
            statement["plan"] = list(look.plan)
        if ran is not None:
            statement["rows"] = ran.asked.rows.get((shard_id, sent.table), 0)
        entry["statements"].append(statement)
    if ran is not None:
        entry["seconds"] = round(ran.asked.seconds.get(shard_id, 0.0), 3)
        entry["bytes_received"] = ran.asked.received.get(shard_id)
    return entry
