"""The published history: series, change points, figures and pages."""
