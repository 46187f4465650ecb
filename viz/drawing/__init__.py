"""Pictures of a reconstruction: viewpoints, colourings, and the renderers that draw them."""
