"""Tests of slots, and of what else the workers share."""
