"""Whole nodes in virtual time, over a simulated network, disk and clock."""
