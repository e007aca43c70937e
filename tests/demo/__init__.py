"""The world that the demo and the tests run in is itself made of real parts, and leaves nothing behind."""
