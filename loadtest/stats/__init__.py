"""Statistics for the other rooms: order statistics, shares, correlation, differences and a log histogram.

SciPy is slow to import, so only the functions that need it import it.
"""

__all__ = ["correlated_bins", "differences", "order_statistics", "shares"]
