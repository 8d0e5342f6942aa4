"""What Nightshift costs, measured beside what it stands on, in one run."""
