"""What profilers do about pivots, one file each."""
