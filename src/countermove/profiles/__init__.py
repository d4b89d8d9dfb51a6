"""The profiles arena: people add items to what they published, and a profiler reads an attribute from all of it."""

VERSION = 1
"""Raised when the protocol (splits, what is received, scoring) changes its outputs."""
