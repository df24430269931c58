"""loopsy: commands, files, context and messages between the machines of one person, over the LAN."""
