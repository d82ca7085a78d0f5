"""The benchmark that users run."""
