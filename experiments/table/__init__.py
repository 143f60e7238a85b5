"""Published tables: protocol files, their cells as runs, and what was reproduced."""
