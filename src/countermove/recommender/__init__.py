"""The recommender arena: a merchant changes an item's picture to climb the lists of a visually-aware recommender."""

VERSION = 1
"""Raised when the protocol (split, first stage, ranking, metrics) changes its outputs."""
