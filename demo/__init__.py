"""A real world in one folder, for the demo and the tests: Docker engine, registry, base image, server, people.

Everything runs on the loopback address, is made in seconds from what the machine has, and is stopped by process id. The
demo itself is `python -m demo`.
"""
