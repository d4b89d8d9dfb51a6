"""The engines of this arena, one file each."""
