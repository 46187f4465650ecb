"""Loops over pixels for a CPU, compiled by numba when they are imported."""
