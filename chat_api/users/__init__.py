"""Users: whom everything belongs to."""
