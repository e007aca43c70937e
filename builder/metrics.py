"""What is measured of builds, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter

IMAGES = Counter(
    "slipway_build_images",
    "Images that builds ended with: built, or used again since nothing that they are made from had changed.",
    ("origin",),
)
STEPS = Counter("slipway_build_steps", "Steps of Dockerfiles that builds ran, or took from the cache.", ("origin",))

BUILT, REUSED = IMAGES.labels("built"), IMAGES.labels("reused")
RUN, CACHED = STEPS.labels("run"), STEPS.labels("cache")
