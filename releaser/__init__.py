"""An image and a config become running services: containers, health, routes."""
