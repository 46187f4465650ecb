"""Which way is up, where the floor is, and the frame that a scene's coordinates get of it."""
