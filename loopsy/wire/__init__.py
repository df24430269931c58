"""What goes over the wire: frozen types, one converter, the URL table, event streams and frames."""
