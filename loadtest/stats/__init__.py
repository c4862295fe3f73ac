"""Statistics that several rooms need: order statistics, means, shares, differences, and a log histogram.

SciPy is slow to import, so that only the functions that need it do it.
"""

__all__ = ["differences", "log_histogram", "means", "order_statistics", "shares"]
