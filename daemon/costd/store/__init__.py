"""The durable part: SQLite, one writer, many readers."""
