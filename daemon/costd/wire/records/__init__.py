"""Records as text: the one form that exports write and imports read (docs/export.md)."""
