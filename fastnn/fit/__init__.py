"""The course of a fit."""
