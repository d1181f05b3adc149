"""An application with four sets of tables in one database; see README.md."""
