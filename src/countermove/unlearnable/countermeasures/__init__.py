"""The replies of this arena: one file a countermeasure."""
