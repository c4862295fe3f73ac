"""Comparison of clients' policies in virtual time: which client finishes its work soonest without a 429."""

__all__ = ["compare", "policies", "results", "simulator", "take_home", "work"]
