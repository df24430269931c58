"""What lies under the data directory. Blocking code: services call what is slow from a thread."""
