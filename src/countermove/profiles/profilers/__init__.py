"""The models of this arena, one file each: how an attribute is read from the features of a profile's items."""
