"""Gathering in this process, in DuckDB: for what is on a list of operators, functions and types, each proven equal.

DuckDB sees no text of the user's: a statement is read into a tree, every part of it gets the type that the fleet's
engine would give it, and what is on the list for that type is written anew. All else is refused.
"""
