"""Studies that ship, as TOML."""
