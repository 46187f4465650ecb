"""Fast forms of layers for CPUs; each gives what its plain form gives, up to rounding."""
