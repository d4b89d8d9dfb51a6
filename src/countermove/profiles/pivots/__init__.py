"""What people add to their profiles, one file each."""
