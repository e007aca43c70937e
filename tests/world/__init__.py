"""What the tests need of the world beyond what the demo has: see `demo` for engine, registry, server and people."""
