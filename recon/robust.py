"""Constants of robust statistics."""

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation, 1 / 0.6745."""
