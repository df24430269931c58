"""The ``loopsy`` command: one module a family of commands, each parse → one question to the daemon → render."""
