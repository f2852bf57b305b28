"""Endpoints for whoever runs the service."""
