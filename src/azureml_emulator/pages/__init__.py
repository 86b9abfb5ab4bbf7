"""Pages for people who look into the emulator: read-only, rendered here, with nothing from elsewhere."""
