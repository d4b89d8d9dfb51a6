"""The promotions of this arena, one file each."""
