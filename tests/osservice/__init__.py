"""Services of the system: what is written, and what is done with it."""
