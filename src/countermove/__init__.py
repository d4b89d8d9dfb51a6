"""Countermove: change data before you publish it, let the other side reply, measure what is left."""

__version__ = "0.1.0"
