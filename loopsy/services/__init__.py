"""What runs: Twisted services that do the I/O around core."""
