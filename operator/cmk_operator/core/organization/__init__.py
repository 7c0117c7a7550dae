"""An organization's own key: what a failed call means, whether new settings may be served, and what is still needed."""
