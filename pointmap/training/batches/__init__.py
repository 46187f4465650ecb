"""Batches of posed pairs: read from shards, drawn, photographed, made ahead of time."""
