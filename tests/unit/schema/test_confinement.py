"""Which statements name another schema as what they change."""

from __future__ import annotations

import pytest

from shardctl.schema.confinement import changed_schema

OWN = "s_asia"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.cities (id int)",
        "create table if not exists public . cities (id int)",
        'CREATE UNLOGGED TABLE "public"."cities" (id int)',
        "ALTER TABLE ONLY public.cities ADD COLUMN x int",
        "DROP TABLE IF EXISTS public.cities",
        "RENAME TABLE public.cities TO public.towns",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ix ON public.cities (id)",
        "create index on public.cities (id)",
        "DROP INDEX CONCURRENTLY public.ix",
        "CREATE OR REPLACE VIEW public.v AS SELECT 1",
        "ALTER TYPE public.mood ADD VALUE 'calm'",
        "COMMENT ON TABLE public.cities IS 'x'",
        "CREATE SEQUENCE public.ids",
        "INSERT INTO public.cities VALUES (1)",
        "insert into `public`.`cities` values (1)",
        "REPLACE INTO public.cities VALUES (1)",
        "UPDATE ONLY public.cities SET id = 2",
        "DELETE FROM public.cities",
        "TRUNCATE public.cities",
        "select 1; insert into public.cities values (1)",
        "-- a note\n/* another */ update public.cities set id = 1",
        "copy public.cities from stdin",
    ],
)
def test_named_as_changed(statement: str) -> None:
    assert changed_schema(statement, OWN) == "public"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE cities (id int DEFAULT nextval('public.ids'))",
        "CREATE TABLE s_asia.cities (id int)",
        'CREATE TABLE "s_asia".cities (id int)',
        "create table S_Asia.cities (id int)",
        "INSERT INTO cities SELECT * FROM public.cities",
        "ALTER TABLE cities ADD FOREIGN KEY (c) REFERENCES public.countries (id)",
        "ALTER TABLE cities ALTER COLUMN c TYPE public.mood",
        "UPDATE cities SET name = public.lowered(name)",
        "INSERT INTO notes VALUES ('; insert into public.cities values (1)')",
        "INSERT INTO notes VALUES ('it''s; update public.cities set x = 1')",
        "CREATE FUNCTION f() RETURNS int AS $body$ BEGIN; INSERT INTO public.log VALUES (1); END $body$ LANGUAGE sql",
        "-- insert into public.cities\nselect 1",
        "COMMENT ON COLUMN cities.name IS 'x'",
        "CREATE TEMP TABLE pg_temp.scratch (id int)",
        "SELECT * FROM public.cities FOR UPDATE",
    ],
)
def test_not_named_as_changed(statement: str) -> None:
    assert changed_schema(statement, OWN) is None


def test_case_counts_in_quotes_only() -> None:
    assert changed_schema('update "S_ASIA".cities set id = 1', OWN) == "S_ASIA"
