"""Ray, where it is installed, for clusters on this machine alone."""

from __future__ import annotations

import os

import pytest

# Before it is imported: nothing listens elsewhere, and nothing is told to anybody.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")
