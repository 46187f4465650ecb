"""How far the cameras of a finished alignment can be believed."""
