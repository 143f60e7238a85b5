"""The performance suite: ours, upstream's and a bare PyTorch loop on the same work."""
