"""Pictures of a reconstruction: viewpoints, looks, and the renderers that draw them."""
