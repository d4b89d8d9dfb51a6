"""Moves of the retrieval arena, one file each."""
