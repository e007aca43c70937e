"""Benchmarks: this server beside others, doing the same work in turn."""
