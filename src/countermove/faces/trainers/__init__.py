"""The countermoves of this arena, one file each."""
