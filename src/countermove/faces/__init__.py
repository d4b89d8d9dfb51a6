"""The faces arena: photos are cloaked before they are published, and a recogniser is made of them later."""

VERSION = 1
"""Raised when the protocol (split, galleries, scoring) changes its outputs."""
