"""What the embedded cache store is made of: pure structures that keep a million answers cheap."""
