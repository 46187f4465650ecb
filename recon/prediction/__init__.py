"""Stage 1, what the network (or a depth model) says of photos and of pairs of them."""
