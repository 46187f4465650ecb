"""The stages of :mod:`benchmarks.gpu`, each a generator of rows."""
