"""Self-contained HTML pages: the report, the depth report, a scene to turn."""
