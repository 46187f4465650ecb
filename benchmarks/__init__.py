"""Side-by-side timings and accuracy tables; each prints a table and writes JSON."""
