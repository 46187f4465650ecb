"""Where a film's eye goes: view points, one per frame."""
