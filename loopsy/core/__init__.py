"""Decisions without I/O. Time and randomness are arguments; nothing here opens, sends or sleeps."""
