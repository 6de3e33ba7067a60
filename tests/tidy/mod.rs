//! Style that matters is a test: the sources themselves are read and held to the house rules.
