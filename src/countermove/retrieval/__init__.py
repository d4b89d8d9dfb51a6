"""The retrieval arena: a picture is changed before it is used as a query, and an engine looks for others like it."""

VERSION = 1
"""Raised when the protocol (collections, what is received, scoring) changes its outputs."""
