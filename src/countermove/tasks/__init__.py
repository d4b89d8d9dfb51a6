"""The sixth arena: a published network, a task, and how little of the network must change to learn it."""

VERSION = 1
