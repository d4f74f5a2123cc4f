"""The fleet at work: when Redis is asked, who waits for it (a probe, and briefly), and what happens when it fails."""
