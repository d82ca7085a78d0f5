"""Input checked once: single values here, arrays and numbers of threads in their own pages."""

from .values import choice, flag, instance, real, whole

__all__ = ["choice", "flag", "instance", "real", "whole"]
