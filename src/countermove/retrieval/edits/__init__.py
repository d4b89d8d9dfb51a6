"""What may happen to a query on its way, one file each."""
