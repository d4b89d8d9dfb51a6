"""The moves of this arena, one file each."""
