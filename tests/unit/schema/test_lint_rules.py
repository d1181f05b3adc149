"""Every rule: what it finds, on the very line, and the safe form that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardctl.schema.lint.examine import Finding, examine, target_of_engine
from shardctl.schema.lint.rules import RULES
from tests.fixtures.lint_cases import BEFORE, CASES, Case
from tests.fixtures.projects import Project

IDS = [f"{case.code}-{number}" for number, case in enumerate(CASES)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, BEFORE)
    return made


def findings(project: Project, engine: str, revision: str = "r2") -> list[Finding]:
    scripts = project.scripts()
    return examine(scripts, [target_of_engine(engine, [revision])]).findings


def lines_marked(file: Path) -> list[int]:
    return [number for number, line in enumerate(file.read_text().splitlines(), 1) if line.endswith("# <-")]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_hazard_is_found_on_its_line(case: Case, project: Project) -> None:
    file = project.write_revision("r2", "r1", case.hazard)
    found = [finding for finding in findings(project, case.engine) if finding.code == case.code]
    assert [finding.line for finding in found] == lines_marked(file)
    rule = RULES[case.code]
    expected = rule.on_schemas if rule.on_schemas and case.engine == "postgresql" else rule.severity
    assert {finding.severity for finding in found} == {expected}


@pytest.mark.parametrize("case", [case for case in CASES if case.safe], ids=lambda case: case.code)
def test_safe_form_is_not_found(case: Case, project: Project) -> None:
    project.write_revision("r2", "r1", case.safe)
    assert [finding for finding in findings(project, case.engine) if finding.code == case.code] == []


@pytest.mark.parametrize(
    ("downgrade", "upgrade", "code"),
    [
        ("    pass", 'op.drop_table("users")', "IR01"),
        ('    """Nothing."""', 'op.drop_table("users")', "IR01"),
        ("    raise NotImplementedError", 'op.drop_table("users")', "IR02"),
        ("    op.drop_table('x')", 'op.drop_table("users")', None),
        ("    pass", 'op.execute("UPDATE users SET id = 1 WHERE id = 2")', None),
        ("    pass", "pass", None),
    ],
)
def test_downgrades(downgrade: str, upgrade: str, code: str | None, project: Project) -> None:
    file = project.write_revision("r2", "r1", upgrade)
    file.write_text(file.read_text().replace("def downgrade():\n    pass", f"def downgrade():\n{downgrade}"))
    found = [finding for finding in findings(project, "sqlite") if finding.code in {"IR01", "IR02"}]
    assert [(finding.code, finding.line) for finding in found] == ([(code, 12)] if code else [])


def test_downgrade_that_is_missing(project: Project) -> None:
    file = project.write_revision("r2", "r1", 'op.drop_table("users")')
    file.write_text(file.read_text().partition("\n\n\ndef downgrade")[0] + "\n")
    assert [(f.code, f.line) for f in findings(project, "sqlite") if f.code.startswith("IR")] == [("IR02", None)]


def test_every_rule_is_tried() -> None:
    assert {case.code for case in CASES} | {"IR01", "IR02"} == set(RULES)


@pytest.mark.parametrize("code", RULES)
def test_every_rule_explains_itself(code: str) -> None:
    rule = RULES[code]
    assert rule.explanation
    assert not rule.why.endswith(".")
    assert not rule.safer.endswith(".")
