"""The operator's settings: one TOML file to one frozen `Config`."""
