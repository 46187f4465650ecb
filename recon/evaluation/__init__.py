"""The field's measures of cameras and depth, for results whose truth is known."""
