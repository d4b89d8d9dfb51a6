"""How networks that describe pictures are come by, one file each."""
