"""Records of measurements: one JSON line each, whoever measured."""
