"""A commit and a Dockerfile become an image; registry credentials; images pulled as they are."""
