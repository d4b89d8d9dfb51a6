"""The moves of this arena: one file a poison."""
