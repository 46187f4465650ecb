"""Stage 2, what two photos say of each other: matches, focal lengths, relative poses."""
