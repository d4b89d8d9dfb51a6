"""What the owner of an engine does about changed queries, one file each."""
