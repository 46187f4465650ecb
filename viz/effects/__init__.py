"""What one photo and its depth are good for: blur by distance, films, placed models, stereo."""
