"""Stories of what users, a second tenant and an attacker do, and unit tests of pure logic."""
