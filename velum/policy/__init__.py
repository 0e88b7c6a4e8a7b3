"""Policies: what a node decides, as state machines of plain data (see docs/membership.md).

Nothing in this package knows sockets, clocks, threads or files; time is an integer of milliseconds
and randomness a generator, both passed in.
"""
