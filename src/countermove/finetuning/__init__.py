"""How little of a trained network must change: closeness, critical layers, binary masks, and a task as a small file."""

VERSION = 1
