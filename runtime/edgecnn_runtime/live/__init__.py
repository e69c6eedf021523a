"""Live classification: frames of a camera in, label, probability and speed out."""
