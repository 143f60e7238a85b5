"""Arms against references on the same streams: which choice is better, and by how much."""
