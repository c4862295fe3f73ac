"""Statistics that several rooms use: order statistics, means, shares, differences and a log histogram.

SciPy is slow to import, so only the functions that need it import it.
"""

__all__ = ["differences", "log_histogram", "means", "order_statistics", "shares"]
