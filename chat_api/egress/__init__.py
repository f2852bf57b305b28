"""The one gate for all outgoing calls: addresses, limits, connections."""
