"""For tests and demonstrations, ours and yours: real nodes in directories of their own, on loopback."""
