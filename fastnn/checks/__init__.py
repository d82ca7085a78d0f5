"""Input checked once: single values here, arrays and numbers of threads in their own pages."""

from .values import Checked, Checks, choice, flag, instance, optional, real, whole, within

__all__ = ["Checked", "Checks", "choice", "flag", "instance", "optional", "real", "whole", "within"]
