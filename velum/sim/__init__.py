"""Simulation: the policies of real nodes over a network made of a seed."""
