"""Long tests of what Tollgate promises where things go wrong: floods, kills, soaks, a million numbers.

`script/reliability` runs them. The short form of each is in tests/reliability, in the test command. A module
of this package that has a `run` is a group.
"""
