"""Property checks of an application's choosers: on generated objects, and on rows that are stored."""
