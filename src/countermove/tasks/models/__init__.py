"""Published networks that learn tasks."""
