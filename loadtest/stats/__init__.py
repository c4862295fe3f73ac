"""Statistics for the other packages: order statistics, means, shares, correlation, differences and a log histogram.

SciPy is slow to import, so only the functions that need it import it.
"""

__all__ = ["correlated_bins", "differences", "log_histogram", "means", "order_statistics", "shares"]
