"""Figures, plots and the report."""
