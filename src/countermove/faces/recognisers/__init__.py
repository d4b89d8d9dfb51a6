"""The models of this arena, one file each: what is made of an extractor and a gallery."""
