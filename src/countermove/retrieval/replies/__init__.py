"""What becomes of queries on their way, and what owners of engines do about them, one file each."""
