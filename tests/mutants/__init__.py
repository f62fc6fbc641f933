"""Mutants: one small change of the code at a time, and whether the room's tests notice (`make mutants`)."""
