"""Pages for people who look at the emulator: read-only, rendered on the server, with nothing from other hosts."""
