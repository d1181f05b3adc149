"""What pending revisions would do, found by recording them instead of running them, and what is dangerous in it."""
