"""What the platform remembers of its own work: links, plans, outcomes, dead letters, reports."""
