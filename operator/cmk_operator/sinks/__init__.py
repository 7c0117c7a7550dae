"""Where notifications are sent: receivers over HTTPS, with no decision but what their answer means."""
