"""Inputs that nobody has thought of: what is fuzzed, with which seeds, and what has once broken something."""
