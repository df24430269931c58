"""The HTTP edge: one Klein app an area, a streaming Site, the gateway."""
