"""Ways from an item to features, one file each."""
