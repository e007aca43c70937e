"""Other people's test suites, run against this server; each is a program of its own, and none is part of pytest."""
