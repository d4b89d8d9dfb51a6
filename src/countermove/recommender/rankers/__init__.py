"""The rankers of this arena, one file each."""
