"""The agent CLIs: how each is driven, and how loopsy is registered with it."""
