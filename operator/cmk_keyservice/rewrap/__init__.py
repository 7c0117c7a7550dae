"""Re-wraps the data keys whose key version is not the accepted one; it touches no data."""
