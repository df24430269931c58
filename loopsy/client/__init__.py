"""The two clients: ``local`` (commands to their own daemon) and ``peer`` (the daemon to other daemons)."""
