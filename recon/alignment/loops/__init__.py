"""Loops over observations and points, compiled by numba when they are imported."""
