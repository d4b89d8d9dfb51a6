"""The defences of this arena, one file each."""
